//! Failures of the infrastructure burn no attempt, wherever they surface.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use eventflow::prelude::*;
use eventflow_tests::shop::{Call, Database, Postgres, Script, Shop, Sqlite, names, soon};
use futures_util::FutureExt;
use sqlx::{Connection, sqlite::SqliteConnectOptions};

on_every_database!(
    a_lost_connection_of_a_handlers_own_burns_no_attempt,
    a_conflict_in_a_handlers_own_error_runs_the_unit_again,
);

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the stock could not be read")]
    Stock(#[source] sqlx::Error),
}

async fn a_lost_connection_of_a_handlers_own_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number == 1 {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                return Err(StockError::Stock(lost.into()).into());
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

/// An error that SQLite gives while another connection writes.
async fn busy() -> sqlx::Error {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("busy.db"))
        .create_if_missing(true)
        .busy_timeout(std::time::Duration::ZERO);
    let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let _held = holder.begin_with("BEGIN IMMEDIATE").await.unwrap();
    other.begin_with("BEGIN IMMEDIATE").await.err().unwrap()
}

/// A handler that meets a conflict twice; counts its runs.
async fn conflicts<D, F>(conflict: F)
where
    D: Database,
    F: for<'a> Fn(Call<'a, D>) -> futures_util::future::BoxFuture<'a, sqlx::Error>
        + Send
        + Sync
        + 'static,
{
    let shop = Shop::<D>::open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let conflict = Arc::new(conflict);
    let script = Script::<D>::new().on_order(move |mut call| {
        let conflict = Arc::clone(&conflict);
        let run = match call.event.number {
            1 => counted.fetch_add(1, Ordering::SeqCst) + 1,
            _ => u32::MAX,
        };
        async move {
            call.write().await?;
            if run <= 2 {
                return Err(StockError::Database(conflict(call).await).into());
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (3, 0), "{report}");
    assert_eq!(report.units_lost, 2, "{report}");
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
    assert_eq!(shop.effects().await, names(0..3));
}

async fn a_conflict_in_a_handlers_own_error_runs_the_unit_again<D: Database>() {
    conflicts::<D, _>(|_| busy().boxed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serialization_failures_and_deadlocks_run_the_unit_again() {
    conflicts::<Postgres, _>(|mut call| {
        async move {
            let raise = "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$";
            call.execute(raise).await.unwrap_err()
        }
        .boxed()
    })
    .await;
    conflicts::<Postgres, _>(|mut call| {
        async move {
            let raise = "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$";
            call.execute(raise).await.unwrap_err()
        }
        .boxed()
    })
    .await;
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
