//! Row S1: another process writes to the SQLite file for too long, or the disk is full.

use std::{sync::Arc, time::Duration};

use eventflow_tests::{
    always, eventually,
    running::Running,
    shop::{Database, Script, Shop, Sqlite, names},
    worker::InboxAt,
};
use futures_util::FutureExt;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::Semaphore;

use super::DEADLINE;

/// Longer than the five seconds for which the inbox waits for other writers.
const TOO_LONG: Duration = Duration::from_secs(6);

/// A connection of someone else.
async fn beside(shop: &Shop<Sqlite>) -> SqliteConnection {
    let InboxAt::Sqlite(file) = shop.database.at() else {
        panic!("a SQLite database is in a file");
    };
    let options = SqliteConnectOptions::new().filename(file);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// What is read is not acknowledged before it is stored, and what is done waits to be settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_locked_for_longer_than_the_busy_timeout() {
    let shop = Shop::<Sqlite>::open().await;
    let permits = Arc::new(Semaphore::new(0));
    let given = Arc::clone(&permits);
    let script = Script::<Sqlite>::new().on_parcel(move |_| {
        let permits = Arc::clone(&given);
        async move {
            drop(permits.acquire().await);
            Ok(())
        }
        .boxed()
    });
    let running = Running::start(shop.consumer(script).build().unwrap());
    shop.parcels(0..1).await;
    eventually(DEADLINE, async || shop.counts().await.processing == 1).await;

    let mut other = beside(&shop).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    permits.add_permits(1);
    shop.orders(0..5).await;

    always(TOO_LONG, async || {
        let counts = shop.counts().await;
        counts.processing == 1 && counts.processed == 0
    })
    .await;
    assert!(shop.stream.pending() > 0, "acknowledged and not stored");
    other.execute("ROLLBACK").await.unwrap();
    eventually(DEADLINE, async || shop.counts().await.processed == 6).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.failed, report.duplicates), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..5));
    let retried = "SELECT event_id FROM event_inbox WHERE retry_count <> 0";
    assert!(shop.database.texts(retried).await.is_empty());
}

/// Room for no page more than there are.
const FULL: &str = "PRAGMA max_page_count = 1";
const ROOM: &str = "PRAGMA max_page_count = 1000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_disk_full() {
    let shop = Shop::<Sqlite>::open().await;
    let inbox = shop.inbox();
    sqlx::query(FULL).execute(inbox.pool()).await.unwrap();
    // All are there at once, so that the first batch has more rows than the last pages have room for.
    shop.orders(0..100).await;
    let running = Running::start(shop.consumer(Script::new()).build().unwrap());

    eventually(DEADLINE, async || shop.stream.pending() > 0).await;
    always(Duration::from_secs(1), async || {
        shop.stream.pending() > 0 && shop.counts().await.processing == 0
    })
    .await;
    sqlx::query(ROOM).execute(inbox.pool()).await.unwrap();

    eventually(DEADLINE, async || shop.counts().await.processed == 100).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.failed, report.duplicates), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..100));
}

/// It may end the whole transaction, and the others of the unit run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_disk_full_in_a_handler() {
    let shop = Shop::<Sqlite>::open().await;
    let script = Script::<Sqlite>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number == 1 {
                call.execute(FULL).await?;
                call.execute("INSERT INTO effects VALUES (randomblob(1000000))")
                    .await?;
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 0), "{report}");
    assert_eq!(report.handed_back, 1, "{report}");
    assert_eq!(shop.effects().await, names([0, 2]));
    assert_eq!(shop.column("order-1", "status").await, "pending");
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
}
