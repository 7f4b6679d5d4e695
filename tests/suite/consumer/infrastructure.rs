//! Failures of the infrastructure burn no attempt, wherever they surface.

use eventflow::prelude::*;
use eventflow_tests::shop::{Database, Script, Shop, Sqlite, names, soon};
use futures_util::FutureExt;

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
