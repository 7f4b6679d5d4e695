//! Failures of the infrastructure burn no attempt, wherever they surface.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Delivery, prelude::*};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Postgres, Script, Shop, Sqlite, in_an_hour, names, soon},
    worker::InboxAt,
};
use futures_util::FutureExt;
use sqlx::{Connection, postgres::PgPoolOptions, sqlite::SqliteConnectOptions};
use tokio::sync::{Notify, Semaphore};
use tower::service_fn;

use super::DEADLINE;

on_every_database!(
    a_lost_connection_of_a_handlers_own_burns_no_attempt,
    what_a_transparent_error_hides_burns_no_attempt,
);

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("the stock could not be read")]
    Stock(#[source] sqlx::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    #[classify(transparent)]
    Nested(#[from] WarehouseError),
    #[error(transparent)]
    Unmarked(sqlx::Error),
}

#[derive(Debug, thiserror::Error, Classify)]
enum WarehouseError {
    #[error(transparent)]
    #[classify(dead_letter)]
    Database(#[from] sqlx::Error),
}

async fn a_lost_connection_of_a_handlers_own_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number == 1 {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                Err(StockError::Stock(lost.into()))?;
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).backoff(soon());
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.handed_back), (2, 1), "{report}");
    assert_eq!(shop.column("order-1", "status").await, "pending");
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
    assert_eq!(shop.effects().await, names([0, 2]));
}

async fn what_a_transparent_error_hides_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|call| {
        async move {
            let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            Err(match call.event.number {
                0 => StockError::from(sqlx::Error::from(lost)).into(),
                1 => StockError::from(sqlx::Error::PoolTimedOut).into(),
                2 => StockError::from(WarehouseError::from(sqlx::Error::PoolTimedOut)).into(),
                3 => StockError::Unmarked(sqlx::Error::PoolTimedOut).into(),
                _ => StockError::from(WarehouseError::from(sqlx::Error::RowNotFound)).into(),
            })
        }
        .boxed()
    });
    shop.orders(0..5).await;

    let report = shop
        .consumer(script)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    assert_eq!((report.handed_back, report.failed), (4, 0), "{report}");
    assert_eq!(report.dead_lettered, 1, "{report}");
    assert_eq!(shop.event_ids("dead_letter").await, ["order-4"]);
    assert_eq!(shop.effects().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_handlers_own_sql_is_an_attempt() {
    let shop = Shop::<Sqlite>::open().await;
    let script = Script::<Sqlite>::new().on_order(|mut call| {
        async move { Ok(call.execute("INSERT INTO no_such_table VALUES (1)").await?) }.boxed()
    });
    shop.orders(0..1).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.failed, report.handed_back), (1, 0), "{report}");
}

/// Fails an order without having asked for the transaction, while no unit can be opened: for as long
/// as what `blocks` answers lives.
async fn ends_while_no_unit_opens<D: Database, B>(
    shop: &Shop<D>,
    inbox: D::Inbox,
    blocks: impl AsyncFnOnce() -> B,
) {
    let runs = Arc::new(AtomicU32::new(0));
    let (began, may_end) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let service = service_fn({
        let (runs, began, may_end) = (runs.clone(), began.clone(), may_end.clone());
        move |_: Delivery<D::Inbox>| {
            let (runs, began, may_end) = (runs.clone(), began.clone(), may_end.clone());
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                began.notify_one();
                drop(may_end.acquire().await);
                Err::<(), _>(Failure::retry("the bank is closed"))
            }
        }
    });
    shop.orders(0..1).await;
    // Nothing but the settlement asks the database while the test runs.
    let consumer = Consumer::builder(shop.stream.clone(), inbox, service)
        .backoff(in_an_hour())
        .poll_interval(DEADLINE * 10)
        .workers(1);
    let running = Running::start(consumer.build().unwrap());
    began.notified().await;

    let blocked = blocks().await;
    may_end.add_permits(1);
    eventually(DEADLINE, async || !running.health().database_reachable).await;
    drop(blocked);
    eventually(DEADLINE, async || shop.counts().await.failed == 1).await;
    let report = running.stop().await;

    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!((report.failed, report.units_lost), (1, 0), "{report}");
    assert_eq!((report.handed_back, report.recovered), (0, 0), "{report}");
    assert_eq!(shop.column("order-0", "retry_count").await, "1");
    let message = shop.column("order-0", "error_message").await;
    assert_eq!(message, "the bank is closed");
}

/// The pool has no connection left for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_ended_is_settled_when_units_open_again_on_postgres() {
    let shop = Shop::<Postgres>::open().await;
    let pool = PgPoolOptions::new()
        .max_connections(3)
        .acquire_timeout(Duration::from_secs(2));
    let pool = pool.connect(shop.database.url()).await.unwrap();
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();

    ends_while_no_unit_opens(&shop, inbox, async || {
        let mut held = Vec::new();
        while held.len() < 3 {
            held.extend(pool.acquire().await);
        }
        held
    })
    .await;
}

/// Another process writes, and the inbox does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_ended_is_settled_when_units_open_again_on_sqlite() {
    let shop = Shop::<Sqlite>::open().await;
    let inbox = shop.inbox();
    let impatient = sqlx::query("PRAGMA busy_timeout = 0").execute(inbox.pool());
    impatient.await.unwrap();
    let InboxAt::Sqlite(file) = shop.database.at() else {
        panic!("a SQLite database is in a file");
    };
    let file = SqliteConnectOptions::new().filename(file);

    ends_while_no_unit_opens(&shop, inbox, async || {
        let mut beside = SqliteConnection::connect_with(&file).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut beside)
            .await
            .unwrap();
        beside
    })
    .await;
}
