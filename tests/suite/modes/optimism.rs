//! Handlers that may be replayed: units without a savepoint for each event, and what a failure in one
//! of them costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Failure, Report};
use eventflow_tests::shop::{Answer, Call, Database, OnPostgres, Script, Shop, names};
use futures_util::FutureExt;

replay_safe!(
    a_failure_among_many_is_one_attempt_and_the_others_are_done_once,
    a_dead_letter_among_many_leaves_the_others,
    a_call_that_is_cut_among_many_is_one_attempt,
    events_that_all_succeed_run_once,
    failures_make_it_rare,
);

replay_safe_on_postgres!(an_error_that_a_handler_swallows_is_its_own_attempt);

/// How many orders are in the unit, and which one goes wrong.
const ORDERS: u32 = 20;
const WRONG: u32 = 10;

/// How often the handlers of orders have run.
#[derive(Clone, Default)]
struct Runs(Arc<[AtomicU32; ORDERS as usize]>);

impl Runs {
    fn note(&self, number: u32) {
        self.0[number as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn of(&self, numbers: std::ops::Range<u32>) -> Vec<u32> {
        let runs = numbers.map(|number| &self.0[number as usize]);
        runs.map(|runs| runs.load(Ordering::SeqCst)).collect()
    }
}

/// Runs one unit in which order `WRONG` does `wrong`; answers what was counted, and the runs.
async fn one_goes_wrong<D, F>(wrong: F) -> (Shop<D>, Report, Runs)
where
    D: Database,
    F: for<'a> Fn(Call<'a, D>) -> Answer<'a> + Send + Sync + 'static,
{
    let shop = Shop::<D>::open().await;
    let runs = Runs::default();
    let script = Script::<D>::new().on_order({
        let runs = runs.clone();
        move |mut call| {
            runs.note(call.event.number);
            if call.event.number == WRONG {
                return wrong(call);
            }
            async move { call.write().await }.boxed()
        }
    });
    shop.orders(0..ORDERS).await;
    let consumer = shop.consumer(script).workers(1);
    let consumer = consumer.handler_timeout(Duration::from_millis(200));
    let report = consumer.build().unwrap().drain().await.unwrap();

    let others = (0..ORDERS).filter(|number| *number != WRONG);
    assert_eq!(shop.event_ids("processed").await, names(others.clone()));
    assert_eq!(shop.effects().await, names(others.clone()));
    for number in others {
        let row = format!("order-{number}");
        assert_eq!(shop.column(&row, "retry_count").await, "0", "{row}");
    }
    assert_eq!(shop.column("order-10", "retry_count").await, "1");
    assert_eq!(report.units_lost, 0, "{report}");
    (shop, report, runs)
}

/// As [`one_goes_wrong`], by a failure that it answers once it has written.
async fn one_fails<D: Database>(failure: fn() -> Failure) -> (Shop<D>, Report, Runs) {
    one_goes_wrong(move |mut call| {
        async move {
            call.write().await?;
            Err(failure())
        }
        .boxed()
    })
    .await
}

/// Those before it run twice, as it does itself; those after it once, with a savepoint each.
fn ran_again(runs: &Runs) {
    assert_eq!(runs.of(0..WRONG), [2; WRONG as usize]);
    assert_eq!(runs.of(WRONG..WRONG + 1), [2]);
    let after = (ORDERS - WRONG - 1) as usize;
    assert_eq!(runs.of(WRONG + 1..ORDERS), vec![1; after]);
}

async fn a_failure_among_many_is_one_attempt_and_the_others_are_done_once<D: Database>() {
    let (shop, report, runs) = one_fails::<D>(|| Failure::retry("not yet")).await;

    assert_eq!((report.processed, report.failed), (19, 1), "{report}");
    assert_eq!(shop.event_ids("failed").await, names([WRONG]));
    ran_again(&runs);
}

async fn a_dead_letter_among_many_leaves_the_others<D: Database>() {
    let fails = || Failure::dead_letter("no such customer");
    let (shop, report, runs) = one_fails::<D>(fails).await;

    let ended = (report.processed, report.dead_lettered);
    assert_eq!(ended, (19, 1), "{report}");
    assert_eq!(shop.event_ids("dead_letter").await, names([WRONG]));
    ran_again(&runs);
}

async fn a_call_that_is_cut_among_many_is_one_attempt<D: Database>() {
    let (shop, report, runs) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            std::future::pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!((report.processed, report.failed), (19, 1), "{report}");
    let message = shop.column("order-10", "error_message").await;
    assert_eq!(message, "timed out after 200ms");
    ran_again(&runs);
}

/// The error has aborted the transaction that all of them share; the next one finds it.
async fn an_error_that_a_handler_swallows_is_its_own_attempt<D: OnPostgres>() {
    let (shop, report, runs) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            let wrong = "INSERT INTO no_such_table VALUES (1)";
            call.execute(wrong).await.unwrap_err();
            Ok(())
        }
        .boxed()
    })
    .await;

    assert_eq!((report.processed, report.failed), (19, 1), "{report}");
    let message = shop.column("order-10", "error_message").await;
    assert!(message.contains("aborted its transaction"), "{message}");
    assert_eq!(runs.of(WRONG..WRONG + 1), [2]);
}

/// With no failure there is nothing to replay.
async fn events_that_all_succeed_run_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let runs = Runs::default();
    let script = Script::<D>::new().on_order({
        let runs = runs.clone();
        move |mut call| {
            runs.note(call.event.number);
            async move { call.write().await }.boxed()
        }
    });
    shop.orders(0..ORDERS).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.processed, u64::from(ORDERS), "{report}");
    assert_eq!(runs.of(0..ORDERS), [1; ORDERS as usize]);
    assert_eq!(shop.effects().await, names(0..ORDERS));
}

/// Units of two, of which the second fails each time: the first runs again where it is tried without
/// savepoints, which is ever more seldom.
async fn failures_make_it_rare<D: Database>() {
    let shop = Shop::<D>::open().await;
    let runs = Runs::default();
    let script = Script::<D>::new().on_order({
        let runs = runs.clone();
        move |mut call| {
            runs.note(call.event.number);
            let fails = call.event.number % 2 == 1;
            async move {
                call.write().await?;
                if fails {
                    return Err(Failure::retry("not yet"));
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..ORDERS).await;

    let consumer = shop.consumer(script).workers(1).batch_size(2);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (10, 10), "{report}");
    let firsts = runs.of(0..ORDERS).into_iter().step_by(2);
    assert_eq!(firsts.collect::<Vec<_>>(), [2, 1, 2, 1, 1, 2, 1, 1, 1, 1]);
    let even = (0..ORDERS).step_by(2);
    assert_eq!(shop.effects().await, names(even));
}
