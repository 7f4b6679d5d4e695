//! Row P6, and P5 with it: a statement whose call was cut runs on at the database, unless it is
//! stopped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eventflow::{PgInbox, Report};
use eventflow_tests::{
    running::Running,
    shop::{Database, OnPostgres, Script, Shop, Sqlite, names},
};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tower::timeout::TimeoutLayer;

use super::{
    DEADLINE,
    exhausted::{FIRST, hold, smallest_pool},
    none_idle_in_transaction,
    redis_shop::RedisShop,
};

on_every_database!(p6_statement_cut_by_a_stop);

on_postgres!(
    p6_cut_statement_is_stopped_on_postgres,
    p5_a_statement_is_stopped_with_one_connection_left,
);

/// Runs one unit of six, of which two are cut in a statement that has no end of its own; answers
/// what was counted.
async fn two_statements_are_cut<D: Database>(shop: &Shop<D>) -> Report {
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if [1, 4].contains(&call.event.number) {
                call.execute(D::ENDLESS).await?;
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..6).await;
    let consumer = shop
        .consumer(script)
        .layer(TimeoutLayer::new(Duration::from_millis(100)));
    let consumer = consumer.workers(1).build().unwrap();

    let started = Instant::now();
    let drained = tokio::time::timeout(DEADLINE, consumer.drain()).await;
    let report = drained.expect("a statement was not stopped").unwrap();

    // Left alone, each would run for as long as a session lets it: thirty seconds.
    assert!(started.elapsed() < DEADLINE / 3, "{:?}", started.elapsed());
    assert_eq!((report.processed, report.failed), (4, 2), "{report}");
    assert_eq!(shop.effects().await, names([0, 2, 3, 5]));
    assert_eq!(shop.event_ids("processed").await, names([0, 2, 3, 5]));
    for row in ["order-1", "order-4"] {
        let message = shop.column(row, "error_message").await;
        assert_eq!(message, "request timed out", "{row}");
        assert_eq!(shop.column(row, "retry_count").await, "1", "{row}");
    }
    none_idle_in_transaction(shop).await;
    report
}

/// The end of the grace period is no fault of the event that is cut by it.
async fn p6_statement_cut_by_a_stop<D: Database>() {
    let shop = Shop::<D>::open().await;
    let entered = Arc::new(Notify::new());
    let enters = Arc::clone(&entered);
    let script = Script::<D>::new().on_order(move |mut call| {
        let enters = Arc::clone(&enters);
        async move {
            call.write().await?;
            enters.notify_one();
            Ok(call.execute(D::ENDLESS).await?)
        }
        .boxed()
    });
    shop.orders(0..1).await;
    let consumer = shop.consumer(script).grace(Duration::from_millis(100));
    let running = Running::start(consumer.build().unwrap());
    entered.notified().await;

    let report = running.stop().await;

    assert_eq!((report.handed_back, report.failed), (1, 0), "{report}");
    assert_eq!(shop.event_ids("pending").await, names(0..1));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
    assert!(shop.effects().await.is_empty());
    none_idle_in_transaction(&shop).await;
}

/// The statement is cancelled, and the answer to that, which comes late, spoils no other one.
async fn p6_cut_statement_is_stopped_on_postgres<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;

    let report = two_statements_are_cut(&shop).await;

    assert_eq!(report.units_lost, 0, "{report}");
    let running = "SELECT pid::text FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep%'
            AND pid <> pg_backend_pid()";
    assert!(shop.database.texts(running).await.is_empty());
}

/// A write that is interrupted ends the whole transaction, so that later statements would commit
/// by themselves: the unit is lost, and the others run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_cut_statement_is_stopped_on_sqlite() {
    let shop = Shop::<Sqlite>::open().await;

    let report = two_statements_are_cut(&shop).await;

    assert_eq!(report.units_lost, 2, "{report}");
}

/// The statement is stopped over a connection of its own: the pool's last one is what runs it.
async fn p5_a_statement_is_stopped_with_one_connection_left<D: OnPostgres>() {
    let site = RedisShop::<D>::open().await;
    let pool = smallest_pool(&site).await;
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
    let _held = hold(&pool, 2).await;
    site.orders(FIRST..FIRST + 10).await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            if call.event.number == FIRST + 4 {
                call.execute(D::ENDLESS).await?;
            }
            call.write().await
        }
        .boxed()
    });

    let consumer = site.consumer_with(inbox, script).await.workers(1);
    let consumer = consumer.layer(TimeoutLayer::new(Duration::from_millis(100)));
    let started = Instant::now();
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert!(started.elapsed() < DEADLINE / 6, "{:?}", started.elapsed());
    assert_eq!((report.processed, report.failed), (9, 1), "{report}");
    assert_eq!(report.units_lost, 0, "{report}");
}
