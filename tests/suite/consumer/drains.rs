//! Drains: everything that waits, and then the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{ErrorKind, Failure, Inbox, prelude::*};
use eventflow_tests::{
    proxy::Proxy,
    redis::RedisServer,
    shop::{Database, GROUP, Script, Shop, Sqlite, names, order, router, soon},
};
use futures_util::FutureExt;

on_every_database!(
    a_drain_leaves_what_is_scheduled_for_later,
    a_scheduled_drain_runs_until_each_is_done,
    a_scheduled_drain_runs_an_event_without_limit_once,
    a_scheduled_drain_leaves_the_schedule_as_it_is,
    a_drain_reports_what_is_new,
    a_drain_needs_no_more_than_one_row_at_a_time,
);

/// Fails `failures` times for each order; counts the runs.
fn failing<D: Database>(failures: u32) -> (Script<D>, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let script = Script::new().on_order(move |mut call| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            call.write().await?;
            if call.meta.attempt <= failures {
                return Err(Failure::retry("not yet"));
            }
            Ok(())
        }
        .boxed()
    });
    (script, runs)
}

/// How often a handler runs again for a neighbour that failed: in one unit without savepoints, the
/// one whose failure ends it.
fn runs_again<D: Database>() -> u32 {
    u32::from(D::MODE.inline && D::MODE.replay_safe)
}

async fn a_drain_leaves_what_is_scheduled_for_later<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, runs) = failing(1);
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.failed, report.processed), (3, 0), "{report}");
    assert_eq!(runs.load(Ordering::SeqCst), 3 + runs_again::<D>());
    assert_eq!(shop.counts().await.failed, 3);
}

async fn a_scheduled_drain_runs_until_each_is_done<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, runs) = failing(2);
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain_scheduled().await.unwrap();

    assert_eq!((report.failed, report.processed), (6, 3), "{report}");
    assert_eq!(runs.load(Ordering::SeqCst), 9 + runs_again::<D>());
    assert_eq!(shop.effects().await, names(0..3));
}

async fn a_scheduled_drain_runs_an_event_without_limit_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, runs) = failing(u32::MAX);
    shop.orders(0..5).await;

    let consumer = shop.consumer(script).max_retries(0).batch_size(1);
    let consumer = consumer.build().unwrap();
    let fresh = consumer.drain_scheduled().await.unwrap();
    let waiting = consumer.drain_scheduled().await.unwrap();

    assert_eq!((fresh.failed, waiting.failed), (5, 5));
    assert_eq!(runs.load(Ordering::SeqCst), 10);
    assert_eq!(shop.counts().await.failed, 5);
    assert_eq!(shop.column("order-4", "retry_count").await, "2");
}

async fn a_scheduled_drain_leaves_the_schedule_as_it_is<D: Database>() {
    let shop = Shop::<D>::open().await;
    let day = Duration::from_hours(24);
    let script = Script::<D>::new()
        .on_order(move |_| async move { Err(Failure::retry_after(day, "tomorrow")) }.boxed());
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).max_retries(0).build().unwrap();
    let report = consumer.drain_scheduled().await.unwrap();

    assert_eq!((report.failed, report.handed_back), (3, 0), "{report}");
    let due = shop.inbox().next_due(GROUP).await.unwrap().unwrap();
    assert!(due > Duration::from_hours(23), "{due:?}");
    assert!(due <= day, "{due:?}");
}

async fn a_drain_reports_what_is_new<D: Database>() {
    let shop = Shop::<D>::open().await;
    let consumer = shop.consumer(Script::new()).build().unwrap();
    shop.orders(0..3).await;
    consumer.drain().await.unwrap();
    shop.orders(3..5).await;

    let report = consumer.drain().await.unwrap();

    assert_eq!((report.read, report.processed), (2, 2), "{report}");
    assert_eq!(
        consumer.drain().await.unwrap(),
        eventflow::Report::default()
    );
}

async fn a_drain_needs_no_more_than_one_row_at_a_time<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, _) = failing(1);
    shop.orders(0..5).await;
    shop.parcels(0..5).await;

    let consumer = shop.consumer(script).backoff(soon()).batch_size(1);
    let report = consumer.workers(1).build().unwrap().drain_scheduled().await;

    assert_eq!(report.unwrap().processed, 10);
    assert_eq!(shop.effects().await, names(0..5));
}

#[handler]
async fn count_order(
    _event: eventflow_tests::shop::OrderPlaced,
    tx: &mut SqliteConnection,
) -> Result<(), Failure> {
    sqlx::query("INSERT INTO orders DEFAULT VALUES")
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(Debug, EventSet)]
enum Orders {
    Placed(eventflow_tests::shop::OrderPlaced),
}

#[router(events = Orders, handlers(count_order))]
struct Counter;

#[tokio::test]
async fn a_service_is_tested_with_everything_in_memory() {
    let inbox = SqliteInbox::in_memory().await.unwrap();
    inbox.migrate().await.unwrap();
    let stream = MemoryStream::new("shop").group("counter");
    let consumer = Consumer::builder(stream.clone(), inbox.clone(), Counter::new(()));
    let consumer = consumer.build().unwrap();

    // The table `orders` is not there yet.
    stream.send(&[order(1)]).await.unwrap();
    let report = consumer.drain_scheduled().await.unwrap();

    assert_eq!((report.failed, report.dead_lettered), (2, 1), "{report}");
    let letters = inbox.dead_letters("counter", 10).await.unwrap();
    assert!(letters[0].error_message.contains("no such table"));
}

/// A service waits for its servers; a job would hang.
#[tokio::test]
async fn a_drain_does_not_wait_for_a_server_that_is_not_there() {
    let server = RedisServer::start().await;
    let mut proxy = Proxy::start(server.port()).await;
    let shop = Shop::<Sqlite>::open().await;
    let stream = RedisStream::builder(proxy.url(&server.url())).stream("shop");
    let stream = stream.group(GROUP).connect().await.unwrap();
    let consumer = Consumer::builder(stream, shop.inbox(), router(Script::<Sqlite>::new()));
    let consumer = consumer.build().unwrap();
    proxy.refuse().await;
    proxy.cut();

    let error = consumer.drain().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Stream);
    assert!(error.is_transient());
    proxy.accept().await;
    assert_eq!(consumer.drain().await.unwrap().read, 0);
}
