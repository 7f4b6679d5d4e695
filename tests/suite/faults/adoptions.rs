//! Row K8, of a table of the Python package: a process dies while it adopts it.

use eventflow::Inbox;
use eventflow_tests::{
    eventually,
    shop::{Database, OnPostgres, Postgres},
    site::Site,
    work::WorkRequested,
    worker::{Job, Worker, WorkerConfig},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{DEADLINE, dies_at};
use crate::inbox::adoption::{FORMS, python_table};

async fn site() -> (Site<Postgres>, WorkerConfig) {
    let site = Site::<Postgres>::without_inbox().await;
    let mut connection = PgConnection::connect(site.database.url()).await.unwrap();
    let table = AssertSqlSafe(python_table(FORMS[0]));
    connection.execute(table).await.unwrap();
    let mut adopts = site.worker();
    adopts.job = Job::Migrate;
    (site, adopts)
}

async fn is_finished_by_two_others(site: &Site<Postgres>, adopts: &WorkerConfig) {
    let mut again = [Worker::start(adopts), Worker::start(adopts)];
    for worker in &mut again {
        let status = worker.exit().await;
        assert!(status.success(), "{status}:\n{}", worker.logs());
    }
    let versions = "SELECT version::text FROM event_inbox_migrations ORDER BY version";
    assert_eq!(site.database.texts(versions).await, ["1", "2"]);
    let ids = site.publish([WorkRequested::taking(0)]).await;
    let _worker = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
}

/// The indexes of the table and their numbers.
async fn indexes(site: &Site<Postgres>) -> Vec<String> {
    let indexes = "SELECT concat_ws(' ', indexrelid::regclass, indexrelid, indisvalid)
        FROM pg_index WHERE indrelid = 'event_inbox'::regclass
            AND indexrelid::regclass::text ~ '^(ix|uq)_event_inbox_[a-z]*$' ORDER BY 1";
    site.database.texts(indexes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_killed_while_it_adopts_a_table() {
    let (site, adopts) = site().await;

    dies_at("in_adoption", &adopts).await;

    let left = indexes(&site).await;
    assert_eq!(left.len(), 5, "{left:?}");
    is_finished_by_two_others(&site, &adopts).await;
    let mut kept = indexes(&site).await;
    kept.retain(|index| left.contains(index));
    assert_eq!(kept, left, "what was built is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_killed_before_an_adoption_is_committed() {
    let (site, adopts) = site().await;

    dies_at("in_migration", &adopts).await;

    let versions = "SELECT version::text FROM event_inbox_migrations";
    assert_eq!(site.database.texts(versions).await, ["0"]);
    is_finished_by_two_others(&site, &adopts).await;
    site.database.inbox().check_schema().await.unwrap();
}

/// The server goes on with the build, which is not to be thrown away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_killed_while_it_builds_an_index() {
    let (site, adopts) = site().await;
    let mut snapshot = PgConnection::connect(site.database.url()).await.unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM effects";
    snapshot.execute(begin).await.unwrap();
    let mut worker = Worker::start(&adopts);
    let waits = "SELECT pid::text FROM pg_stat_progress_create_index
        WHERE datname = current_database() AND phase = 'waiting for old snapshots'";
    eventually(DEADLINE, async || {
        !site.database.texts(waits).await.is_empty()
    })
    .await;
    let building = indexes(&site).await;
    assert_eq!(building.len(), 1, "{building:?}");

    worker.kill();

    let next = Worker::start(&adopts);
    let waits = "SELECT pid::text FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query LIKE '%event_inbox%' AND query NOT LIKE 'CREATE%'";
    eventually(DEADLINE, async || {
        !site.database.texts(waits).await.is_empty()
    })
    .await;
    drop(snapshot);
    is_finished_by_two_others(&site, &adopts).await;
    drop(next);
    let built = building[0].trim_end_matches('f').to_owned() + "t";
    assert!(indexes(&site).await.contains(&built));
}
