//! Runs that fail: each ends as one recorded attempt, with the reason in the row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Failure, Inbox, Report, inbox::Status};
use eventflow_tests::shop::{Database, Script, Shop, names, soon};
use futures_util::FutureExt;

on_every_database!(
    an_error_is_one_attempt_with_its_chain,
    a_handler_without_transaction_fails_in_the_same_ways,
    a_long_message_is_cut_at_a_character_and_has_no_nul,
    retry_after_is_the_rows_next_run,
    no_limit_runs_on,
    the_count_of_failed_runs_is_kept_on_success,
    a_failed_run_takes_back_its_writes_and_leaves_the_others,
);

#[derive(Debug, thiserror::Error)]
#[error("no stock for the order")]
struct NoStock(#[source] std::io::Error);

/// The state of `order-1` after one drain in which its handler failed.
async fn failed_once<D: Database>(script: Script<D>) -> Shop<D> {
    let shop = Shop::<D>::open().await;
    shop.orders(1..2).await;

    let consumer = shop.consumer(script);
    let report = consumer
        .handler_timeout(Duration::from_millis(50))
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    assert_eq!((report.processed, report.failed), (0, 1));
    assert_eq!(shop.column("order-1", "status").await, "failed");
    assert_eq!(shop.column("order-1", "retry_count").await, "1");
    assert!(shop.effects().await.is_empty());
    shop
}

async fn an_error_is_one_attempt_with_its_chain<D: Database>() {
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            let cause = std::io::Error::other("the shelf is empty");
            Err(Failure::retry(NoStock(cause)))
        }
        .boxed()
    });

    let shop = failed_once(script).await;

    assert_eq!(
        shop.column("order-1", "error_message").await,
        "no stock for the order: the shelf is empty"
    );
}

async fn a_handler_without_transaction_fails_in_the_same_ways<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_parcel(|parcel| match parcel.event.number {
        1 => async { Err(Failure::retry("no printer")) }.boxed(),
        2 => std::future::pending().boxed(),
        3 => panic!("at once"),
        4 => async { panic!("while polled") }.boxed(),
        5 => async { Err(Failure::dead_letter("no address")) }.boxed(),
        _ => async { Ok(()) }.boxed(),
    });
    shop.parcels(1..9).await;

    let consumer = shop.consumer(script);
    let report = consumer
        .handler_timeout(Duration::from_millis(50))
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    let counts = (report.processed, report.failed, report.dead_lettered);
    assert_eq!(counts, (3, 4, 1));
    for (event_id, message) in [
        ("parcel-1", "no printer"),
        ("parcel-2", "timed out after 50ms"),
        ("parcel-3", "the handler panicked: at once"),
        ("parcel-4", "the handler panicked: while polled"),
        ("parcel-5", "no address"),
    ] {
        assert_eq!(shop.column(event_id, "error_message").await, message);
        assert_eq!(shop.column(event_id, "retry_count").await, "1");
    }
}

async fn a_long_message_is_cut_at_a_character_and_has_no_nul<D: Database>() {
    let script = Script::<D>::new().on_order(|_| {
        let message = format!("a\0{}", "ß".repeat(10_000));
        async { Err(Failure::retry(message)) }.boxed()
    });

    let shop = failed_once(script).await;

    let message = shop.column("order-1", "error_message").await;
    assert!(message.starts_with("a\u{fffd}ßß"), "{message}");
    assert!(message.ends_with("ß…") && message.len() <= 4096);
}

async fn retry_after_is_the_rows_next_run<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|_| {
        async { Err(Failure::retry_after(Duration::from_mins(30), "closed")) }.boxed()
    });
    shop.orders(1..2).await;

    let consumer = shop.consumer(script).build().unwrap();
    consumer.drain().await.unwrap();

    let due = shop.inbox().next_due("shop").await.unwrap().unwrap();
    assert!(due > Duration::from_mins(29) && due <= Duration::from_mins(30));
    assert_eq!(shop.column("order-1", "retry_count").await, "1");
}

/// Counts the runs of an order that fails until run `succeeds_in`.
async fn runs<D: Database>(shop: &Shop<D>, max_retries: i32, succeeds_in: u32) -> (u32, Report) {
    let runs = Arc::new(AtomicU32::new(0));
    let script = Script::new().on_order({
        let runs = Arc::clone(&runs);
        move |mut call| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                assert_eq!(call.meta.attempt, run);
                call.write().await?;
                if run < succeeds_in {
                    return Err(Failure::retry("not yet"));
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(1..2).await;
    let consumer = shop.consumer(script).backoff(soon());
    let consumer = consumer.max_retries(max_retries).build().unwrap();
    let mut report = consumer.drain().await.unwrap();
    while shop.counts().await.failed > 0 {
        let more = consumer.drain().await.unwrap();
        report.failed += more.failed;
        report.processed += more.processed;
        report.dead_lettered += more.dead_lettered;
    }
    (runs.load(Ordering::SeqCst), report)
}

async fn no_limit_runs_on<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (runs, report) = runs(&shop, 0, 12).await;

    assert_eq!(runs, 12);
    assert_eq!((report.failed, report.processed), (11, 1));
}

async fn the_count_of_failed_runs_is_kept_on_success<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (runs, _) = runs(&shop, 3, 3).await;

    assert_eq!(runs, 3);
    assert_eq!(
        shop.column("order-1", "status").await,
        Status::Processed.as_str()
    );
    assert_eq!(shop.column("order-1", "retry_count").await, "2");
    assert_eq!(shop.effects().await, names([1]));
}

async fn a_failed_run_takes_back_its_writes_and_leaves_the_others<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number % 3 == 0 {
                return Err(Failure::retry("every third"));
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..20).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (13, 7));
    assert_eq!(report.units_lost, 0);
    assert_eq!(
        shop.effects().await,
        names((0..20).filter(|number| number % 3 != 0))
    );
}
