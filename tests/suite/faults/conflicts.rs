//! Row P3: a serialization failure or a deadlock runs the unit again, with no attempt counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::prelude::*;
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Call, Database, OnPostgres, Script, Shop, names},
};
use futures_util::FutureExt;
use sqlx::{Connection, Executor, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use super::DEADLINE;

on_every_database!(p3_a_conflict_in_a_handlers_own_error);

on_postgres!(
    p3_serialization_failure,
    p3_deadlock,
    p3_a_conflict_that_does_not_end_is_handed_back,
    p3_a_conflict_of_a_lease_extension_passes,
);

// Inline nobody else can have changed the row, which is there when the unit is committed.
owned_at_birth_on_postgres!(p3_a_conflict_of_a_hand_back_passes);

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An error that SQLite gives while another connection writes.
async fn busy() -> sqlx::Error {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("busy.db"))
        .create_if_missing(true)
        .busy_timeout(Duration::ZERO);
    let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let _held = holder.begin_with("BEGIN IMMEDIATE").await.unwrap();
    other.begin_with("BEGIN IMMEDIATE").await.err().unwrap()
}

/// A handler that meets a conflict twice; counts its runs.
async fn conflicts<D, F>(shop: &Shop<D>, conflict: F)
where
    D: Database,
    F: for<'a> Fn(Call<'a, D>) -> futures_util::future::BoxFuture<'a, sqlx::Error>
        + Send
        + Sync
        + 'static,
{
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

async fn p3_a_conflict_in_a_handlers_own_error<D: Database>() {
    let shop = Shop::<D>::open().await;
    conflicts(&shop, |_| busy().boxed()).await;
}

fn code(error: &sqlx::Error) -> String {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.expect("it is the database's").into_owned()
}

/// Two counters that handlers and others change.
async fn counters(shop: &Shop<impl OnPostgres>) {
    let table = "CREATE TABLE counters (id INT PRIMARY KEY, n INT NOT NULL)";
    shop.database.change(table).await;
    let rows = "INSERT INTO counters VALUES (1, 0), (2, 0)";
    shop.database.change(rows).await;
}

/// New sessions of the database have this level: those that a consumer opens.
async fn isolate(shop: &Shop<impl OnPostgres>, level: &str) {
    let isolation = format!(
        "DO $$ BEGIN EXECUTE format(
            'ALTER DATABASE %I SET default_transaction_isolation = %L',
            current_database(), '{level}');
        END $$"
    );
    shop.database.change(isolation).await;
}

/// The database's transactions see what was committed when they began. The handler reads a row,
/// another session changes it, and the handler wants to.
async fn p3_serialization_failure<D: OnPostgres>() {
    let shop = Arc::new(Shop::<D>::open().await);
    counters(&shop).await;
    isolate(&shop, "repeatable read").await;

    let beside = Arc::clone(&shop);
    conflicts(&shop, move |mut call| {
        let shop = Arc::clone(&beside);
        async move {
            call.execute("SELECT n FROM counters").await.unwrap();
            let change = "UPDATE counters SET n = n + 1";
            shop.database.change(change).await;
            let error = call.execute(change).await.unwrap_err();
            assert_eq!(code(&error), "40001");
            error
        }
        .boxed()
    })
    .await;
}

/// The handler and another session change two rows in opposite orders.
async fn p3_deadlock<D: OnPostgres>() {
    let shop = Arc::new(Shop::<D>::open().await);
    counters(&shop).await;

    let beside = Arc::clone(&shop);
    conflicts(&shop, move |mut call| {
        let shop = Arc::clone(&beside);
        async move {
            // The handler's session looks for deadlocks, and so is the one that gives way.
            let patience = "SET LOCAL deadlock_timeout = '10ms'";
            call.execute(patience).await.unwrap();
            let first = "UPDATE counters SET n = n + 1 WHERE id = 1";
            call.execute(first).await.unwrap();
            // It ends when this attempt's transaction does.
            tokio::spawn({
                let shop = Arc::clone(&shop);
                async move {
                    let opposite = "DO $$ BEGIN
                            SET LOCAL deadlock_timeout = '1h';
                            UPDATE counters SET n = n + 1 WHERE id = 2;
                            UPDATE counters SET n = n + 1 WHERE id = 1;
                        END $$";
                    shop.database.change(opposite).await;
                }
            });
            let until_it_waits = "DO $$ BEGIN
                    WHILE NOT EXISTS (
                        SELECT FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))
                    ) LOOP
                        PERFORM pg_sleep(0.005);
                    END LOOP;
                END $$";
            call.execute(until_it_waits).await.unwrap();
            let second = "UPDATE counters SET n = n + 1 WHERE id = 2";
            let error = call.execute(second).await.unwrap_err();
            assert_eq!(code(&error), "40P01");
            error
        }
        .boxed()
    })
    .await;

    let sum = "SELECT CAST(SUM(n) AS TEXT) FROM counters";
    eventually(DEADLINE, async || shop.database.texts(sum).await == ["4"]).await;
}

/// It runs once, inline once more when it is stored, and five times again; then others have their turn.
async fn p3_a_conflict_that_does_not_end_is_handed_back<D: OnPostgres>() {
    const CONFLICT: &str = "DO $$ BEGIN RAISE 'a conflict' USING ERRCODE = '40001'; END $$";

    let shop = Shop::<D>::open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let script = Script::<D>::new().on_order(move |mut call| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            call.write().await?;
            let error = call.execute(CONFLICT).await.unwrap_err();
            Err(StockError::Database(error).into())
        }
        .boxed()
    });
    shop.orders(0..1).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    let expected = 1 + u32::from(D::MODE.inline) + 5;
    assert_eq!(runs.load(Ordering::SeqCst), expected);
    assert_eq!((report.handed_back, report.failed), (1, 0), "{report}");
    assert_eq!(report.units_lost, u64::from(expected), "{report}");
    assert_eq!(shop.event_ids("pending").await, names(0..1));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
    assert!(shop.effects().await.is_empty());
}

/// Someone else has changed a row, and commits that while the row is to be handed back.
async fn p3_a_conflict_of_a_hand_back_passes<D: OnPostgres>() {
    const CHANGES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
        UPDATE event_inbox SET headers = NULL";
    const WAITS: &str = "SELECT pid::text FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database()";

    let shop = Shop::<D>::open().await;
    isolate(&shop, "serializable").await;
    let url = shop.database.url().to_owned();
    let (changed, mut changing) = mpsc::unbounded_channel();
    let script = Script::<D>::new().on_order(move |_| {
        let (url, changed) = (url.clone(), changed.clone());
        async move {
            let mut beside = PgConnection::connect(&url).await.unwrap();
            beside.execute(CHANGES).await.unwrap();
            changed.send(beside).unwrap();
            let lost = io::Error::from(io::ErrorKind::ConnectionReset);
            Err(StockError::Database(lost.into()).into())
        }
        .boxed()
    });
    shop.orders(0..1).await;

    let consumer = shop.consumer(script).build().unwrap();
    let draining = tokio::spawn(async move { consumer.drain().await });
    let mut beside = changing.recv().await.unwrap();
    eventually(DEADLINE, async || {
        !shop.database.texts(WAITS).await.is_empty()
    })
    .await;
    beside.execute("COMMIT").await.unwrap();
    let report = draining.await.unwrap().unwrap();

    assert_eq!((report.handed_back, report.failed), (1, 0), "{report}");
    assert_eq!(shop.event_ids("pending").await, names(0..1));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}

/// Three of four extensions meet a conflict: as many as a lease is long.
async fn p3_a_conflict_of_a_lease_extension_passes<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    for sql in [
        "CREATE SEQUENCE extensions",
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF nextval('extensions') % 4 <> 0 THEN
                RAISE 'a conflict' USING ERRCODE = '40001';
            END IF;
            RETURN NEW;
         END $$",
        "CREATE TRIGGER conflict BEFORE UPDATE ON event_inbox FOR EACH ROW
         WHEN (OLD.status = NEW.status AND OLD.lock_token = NEW.lock_token)
         EXECUTE FUNCTION conflict()",
    ] {
        shop.database.change(sql).await;
    }
    let gate = Gate::new();
    let script = Script::new().parcels_wait_at(&gate);
    shop.parcels(0..1).await;
    let consumer = shop.consumer(script).lease(Duration::from_millis(900));
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == ["parcel-0"]
    })
    .await;

    for _ in 0..4 {
        let end = shop.column("parcel-0", "locked_until").await;
        eventually(DEADLINE, async || {
            shop.column("parcel-0", "locked_until").await != end
        })
        .await;
    }
    gate.open();
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let report = running.stop().await;

    assert_eq!((report.recovered, report.lease_lost), (0, 0), "{report}");
}
