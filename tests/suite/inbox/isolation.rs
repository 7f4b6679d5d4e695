//! Where transactions are isolated by default, a statement may meet a conflict: it passes.

use eventflow::{consumer::Report, prelude::*};
use eventflow_tests::{
    eventually,
    shop::{Database as _, OnPostgres, Postgres, Script, Shop, names},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::{DEADLINE, Fixture, arrival, fixture, holder};

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

/// New sessions of the database have it: those that an inbox opens from now on.
async fn isolate(url: &str, level: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let default = format!(
        "DO $$ BEGIN EXECUTE format(
            'ALTER DATABASE %I SET default_transaction_isolation = %L',
            current_database(), '{level}');
        END $$"
    );
    connection.execute(AssertSqlSafe(default)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_of_two_inserts_passes() {
    for level in LEVELS {
        let fixture = fixture::Postgres::start().await;
        isolate(fixture.database.url(), level).await;
        let inbox = PgInbox::connect(fixture.database.url()).await.unwrap();
        let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
        let mut open = other.begin().await.unwrap();
        let insert = "INSERT INTO event_inbox
                (consumer, event_id, stream_id, event_type, aggregate_id, occurred_on, payload)
            VALUES ('billing', '1', '', 'OrderPaid', gen_random_uuid(), now(), '{}')";
        open.execute(insert).await.unwrap();

        let inserting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.insert(&holder("a"), vec![arrival("1")]).await }
        });
        let waiting = "SELECT 'waits' FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE NOT granted AND datname = current_database()";
        eventually(DEADLINE, async || !fixture.texts(waiting).await.is_empty()).await;
        open.commit().await.unwrap();

        let error = inserting.await.unwrap().unwrap_err();
        assert!(error.is_transient(), "{level}: {error:?}");
        let again = inbox
            .insert(&holder("a"), vec![arrival("1")])
            .await
            .unwrap();
        assert_eq!((again.rows.len(), again.duplicates.len()), (0, 1));
    }
}

/// Two consumers of a shop at this level; answers what each has counted.
async fn drained(shop: &Shop<Postgres>, level: &str) -> [Report; 2] {
    isolate(shop.database.url(), level).await;
    shop.orders(0..100).await;
    let drain = |name| {
        let stream = shop.stream.clone().consumer(name);
        let consumer = shop.consumer_of(stream, Script::new()).batch_size(10);
        let consumer = consumer.build().unwrap();
        tokio::spawn(async move { consumer.drain().await })
    };
    let (first, second) = tokio::join!(drain("a"), drain("b"));
    [first, second].map(|report| report.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_do_not_meet_where_reads_are_repeatable() {
    let shop = Shop::<Postgres>::open().await;

    let reports = drained(&shop, "repeatable read").await;

    let processed = reports.iter().map(|report| report.processed);
    assert_eq!(processed.sum::<u64>(), 100, "{reports:?}");
    assert_eq!(shop.effects().await, names(0..100));
}

/// Postgres takes rows that lie side by side for a conflict there: units run again, and rows are
/// handed back, but no attempt is counted and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_meet_where_transactions_are_serializable_burn_no_attempt() {
    let shop = Shop::<Postgres>::open().await;

    let reports = drained(&shop, "serializable").await;

    let failed = reports.iter().map(|report| report.failed);
    assert_eq!(failed.sum::<u64>(), 0, "{reports:?}");
    let counts = shop.counts().await;
    assert_eq!((counts.failed, counts.dead_letter), (0, 0));
    let processed = shop.event_ids("processed").await;
    assert_eq!(shop.effects().await, processed);
    let runs = "SELECT DISTINCT CAST(retry_count AS TEXT) FROM event_inbox";
    assert_eq!(shop.database.texts(runs).await, ["0"]);
}
