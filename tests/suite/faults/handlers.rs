//! H1, H2, H3 and H6: what a handler does to itself and to the transaction that it is lent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Failure, prelude::*};
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Answer, Call, Database, OnPostgres, Script, Shop, names, router, soon},
};
use futures_util::FutureExt;
use sqlx::Connection as _;

use super::DEADLINE;

on_every_database!(
    h1_a_failing_handler_runs_as_often_as_it_may_and_a_permanent_failure_once,
    h2_a_panic_is_one_failed_run_wherever_it_happens,
    h3_a_handler_that_hangs_is_cut_rolled_back_and_counted,
    h6_what_a_handler_leaks_is_taken_back_and_what_it_spawns_is_not_waited_for,
);

on_postgres!(h6_connections_that_a_handler_keeps_cost_no_attempt,);

/// Whether the first event of one batch runs again when it fails: with a savepoint of its own.
fn runs_again<D: Database>() -> bool {
    D::MODE.inline && D::MODE.replay_safe
}

async fn h1_a_failing_handler_runs_as_often_as_it_may_and_a_permanent_failure_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let runs = Arc::new([const { AtomicU32::new(0) }; 3]);
    let script = Script::new().on_order({
        let runs = Arc::clone(&runs);
        move |mut call| {
            let number = call.event.number;
            let run = runs[number as usize].fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                let again = number == 0 && run > 1 && runs_again::<D>();
                assert_eq!(call.meta.attempt, run - u32::from(again));
                call.write().await?;
                match number {
                    0 => Err(Failure::retry("always")),
                    1 => Err(Failure::dead_letter("no such customer")),
                    _ if run == 1 => Err(Failure::retry("once")),
                    _ => Ok(()),
                }
            }
            .boxed()
        }
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).backoff(soon()).max_retries(3);
    let report = consumer.build().unwrap().drain_scheduled().await.unwrap();

    let runs = runs.each_ref().map(|runs| runs.load(Ordering::SeqCst));
    assert_eq!(runs, [3 + u32::from(runs_again::<D>()), 1, 2]);
    let ended = (report.processed, report.failed, report.dead_lettered);
    assert_eq!(ended, (1, 3, 2), "{report}");
    for (event_id, message, retry_count) in [
        ("order-0", "always", "3"),
        ("order-1", "no such customer", "1"),
    ] {
        assert_eq!(shop.column(event_id, "status").await, "dead_letter");
        assert_eq!(shop.column(event_id, "error_message").await, message);
        assert_eq!(shop.column(event_id, "retry_count").await, retry_count);
    }
    assert_eq!(shop.effects().await, names([2]));
}

/// Panics when it is dropped.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("it broke");
    }
}

fn panicking<D: Database>(mut call: Call<'_, D>) -> Answer<'_> {
    let number = call.event.number;
    assert_ne!(number, 0, "at once");
    async move {
        call.write().await?;
        match number {
            1 => panic!("while polled"),
            2 => std::panic::panic_any(7),
            3 => {
                let _fragile = Fragile;
                Ok(())
            }
            4 => {
                let _fragile = Fragile;
                std::future::pending().await
            }
            _ => Ok(()),
        }
    }
    .boxed()
}

/// In a program that is built with `panic = "abort"` a panic ends the process: row K9.
async fn h2_a_panic_is_one_failed_run_wherever_it_happens<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..7).await;

    let consumer = shop
        .consumer(Script::<D>::new().on_order(panicking))
        .workers(1);
    let consumer = consumer.handler_timeout(Duration::from_millis(100));
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 5), "{report}");
    assert_eq!(report.units_lost, 0, "{report}");
    assert_eq!(shop.effects().await, names([5, 6]));
    for (event_id, message) in [
        ("order-0", "at once"),
        ("order-1", "while polled"),
        ("order-2", "with a payload that is no text"),
        ("order-3", "it broke"),
        ("order-4", "it broke"),
    ] {
        let kept = shop.column(event_id, "error_message").await;
        assert!(kept.starts_with("the handler panicked: "), "{kept}");
        assert!(kept.contains(message), "{kept}");
        assert_eq!(shop.column(event_id, "status").await, "failed");
        assert_eq!(shop.column(event_id, "retry_count").await, "1");
    }
}

async fn h3_a_handler_that_hangs_is_cut_rolled_back_and_counted<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            match call.event.number {
                0 => std::future::pending().await,
                1 => Ok(call.execute(D::ENDLESS).await?),
                _ => Ok(()),
            }
        }
        .boxed()
    });
    shop.orders(0..4).await;

    let consumer = shop.consumer(script).workers(1);
    let consumer = consumer.handler_timeout(Duration::from_millis(100));
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 2), "{report}");
    assert_eq!(shop.effects().await, names([2, 3]));
    for event_id in ["order-0", "order-1"] {
        assert_eq!(
            shop.column(event_id, "error_message").await,
            "timed out after 100ms"
        );
        assert_eq!(shop.column(event_id, "retry_count").await, "1");
    }
}

/// The transaction is the engine's: forgetting what one began in it does not keep it. A task that
/// outlives its handler has nothing of the transaction, and its answer nobody waits for.
async fn h6_what_a_handler_leaks_is_taken_back_and_what_it_spawns_is_not_waited_for<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::<D>::new().on_order({
        let gate = gate.clone();
        move |mut call| {
            let gate = gate.clone();
            async move {
                match call.event.number {
                    0 => {
                        let mut own = call.tx.begin().await?;
                        D::write(&mut own, "forgotten").await?;
                        #[expect(clippy::mem_forget, reason = "that is the mistake under test")]
                        std::mem::forget(own);
                    }
                    1 => {
                        call.write().await?;
                        tokio::spawn(gate.pass());
                    }
                    _ => call.write().await?,
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 1), "{report}");
    assert_eq!(shop.effects().await, names([1, 2]));
    let message = shop.column("order-0", "error_message").await;
    assert!(
        message.starts_with("a handler left a transaction of its own open"),
        "{message}"
    );
    assert_eq!(shop.event_ids("processed").await, names([1, 2]));
    gate.entered().await;
    gate.let_one_pass();
}

/// A pool that handlers share with the engine may run dry: then units wait, no event fails, and all
/// goes on when a connection comes back.
async fn h6_connections_that_a_handler_keeps_cost_no_attempt<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(3)
        .acquire_timeout(Duration::from_millis(300))
        .connect(shop.database.url())
        .await
        .unwrap();
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
    let kept = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let script = Script::<D>::new().on_parcel({
        let (kept, pool) = (Arc::clone(&kept), pool.clone());
        move |_| {
            let (kept, pool) = (Arc::clone(&kept), pool.clone());
            async move {
                kept.lock().await.push(pool.acquire().await?);
                Ok(())
            }
            .boxed()
        }
    });
    let router = router(script);
    let consumer = D::MODE
        .set(Consumer::builder(shop.stream.clone(), inbox, router))
        .workers(1)
        .poll_interval(Duration::from_millis(20));
    let running = Running::start(consumer.build().unwrap());

    shop.parcels(0..3).await;
    eventually(DEADLINE, async || kept.lock().await.len() == 3).await;
    shop.orders(0..5).await;
    eventually(DEADLINE, async || pool.num_idle() == 0).await;
    kept.lock().await.clear();
    eventually(DEADLINE, async || shop.counts().await.processed == 8).await;
    let report = running.stop().await;

    assert_eq!((report.failed, report.dead_lettered), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..5));
}
