//! Python's table, adopted while its service goes on with it.

use eventflow::{Error, ErrorKind, Inbox as _, prelude::*};
use eventflow_tests::{eventually, postgres::Database};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    CONSUMER, DEADLINE,
    adoption::{FORMS, python_table},
};

/// A database with Python's table, and one that has nothing to do with it.
struct Site {
    database: Database,
    beside: PgPool,
}

impl Site {
    async fn start() -> Self {
        let database = Database::create().await;
        let beside = PgPool::connect(database.url()).await.unwrap();
        let site = Self { database, beside };
        site.change(&python_table(FORMS[1])).await;
        site.change("CREATE TABLE elsewhere AS SELECT 1 AS one")
            .await;
        site
    }

    async fn change(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        self.beside.execute(sql).await.unwrap();
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql)
            .fetch_all(&self.beside)
            .await
            .unwrap()
    }

    /// Sets something for every session that is opened from here on.
    async fn set(&self, setting: &str, value: &str) {
        self.change(&format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = %L',
                current_database(), '{value}'); END $$"
        ))
        .await;
    }

    /// A process that adopts the table.
    fn adopt(&self) -> JoinHandle<Result<(), Error>> {
        let builder = PgInbox::builder(self.database.url()).consumer(CONSUMER);
        tokio::spawn(async move { builder.connect().await?.migrate().await })
    }

    /// A session in a transaction.
    async fn session(&self, begin: &'static str) -> PgConnection {
        let mut session = PgConnection::connect(self.database.url()).await.unwrap();
        session.execute(begin).await.unwrap();
        session
    }

    /// A session that sees the database as it is now: no index is complete before its end.
    async fn old_snapshot(&self) -> PgConnection {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT one FROM elsewhere";
        self.session(begin).await
    }

    /// A session of Python's service that has used the table and not committed.
    async fn long_transaction(&self) -> PgConnection {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT event_id FROM event_inbox";
        self.session(begin).await
    }

    async fn is_true(&self, condition: &str) -> bool {
        let sql = format!("SELECT 'yes' WHERE {condition}");
        !self.texts(&sql).await.is_empty()
    }

    /// Waits until an index is built and waits for old snapshots.
    async fn await_build(&self) {
        let waits = "EXISTS (SELECT FROM pg_stat_progress_create_index
            WHERE datname = current_database() AND phase = 'waiting for old snapshots')";
        eventually(DEADLINE, async || self.is_true(waits).await).await;
    }

    /// Waits until someone waits for the table alone.
    async fn await_exclusive_lock(&self) {
        let waits = "EXISTS (SELECT FROM pg_locks
            WHERE relation = 'event_inbox'::regclass AND mode = 'AccessExclusiveLock'
                AND NOT granted)";
        eventually(DEADLINE, async || self.is_true(waits).await).await;
    }

    /// Inserts as Python does. An adoption may stand in the way for a second.
    async fn insert(&self, event_id: &str) {
        let insert = format!(
            "INSERT INTO event_inbox (id, event_id, stream_id, event_type, aggregate_id,
                occurred_on, payload, status, retry_count, max_retries)
            VALUES (gen_random_uuid(), '{event_id}', '', 'T', gen_random_uuid(), now(), '{{}}',
                'pending', 0, 3)"
        );
        let inserted = timeout(DEADLINE, self.change(&insert)).await;
        assert!(inserted.is_ok(), "the adoption stands in a writer's way");
    }

    /// The index's number, which another of its name does not have.
    async fn oid(&self, index: &str) -> Vec<String> {
        self.texts(&format!("SELECT '{index}'::regclass::oid::text"))
            .await
    }

    async fn is_adopted(&self) {
        let indexes = "SELECT indexrelid::regclass::text FROM pg_index
            WHERE indrelid = 'event_inbox'::regclass AND indisvalid ORDER BY 1";
        let all = [
            "event_inbox_pkey",
            "ix_event_inbox_dead",
            "ix_event_inbox_due",
            "ix_event_inbox_held",
            "ix_event_inbox_lapsed",
            "ix_event_inbox_processed",
            "ix_event_inbox_turn",
            "uq_event_inbox_event",
        ];
        assert_eq!(self.texts(indexes).await, all);
        assert!(
            self.is_true(
                "NOT EXISTS (SELECT FROM pg_index
                    WHERE indrelid = 'event_inbox'::regclass AND NOT indisvalid)"
            )
            .await
        );
        let unique = "SELECT conname::text FROM pg_constraint
            WHERE conrelid = 'event_inbox'::regclass AND contype = 'u'";
        assert_eq!(self.texts(unique).await, ["uq_event_inbox_event"]);
        let versions = "SELECT version::text FROM event_inbox_migrations ORDER BY 1";
        assert_eq!(self.texts(versions).await, ["1", "2"]);
        let owners = "SELECT DISTINCT consumer::text FROM event_inbox";
        assert_eq!(self.texts(owners).await, [CONSUMER]);
    }
}

async fn done(adoption: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    timeout(DEADLINE, adoption)
        .await
        .expect("the adoption ends")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_while_indexes_are_built() {
    let site = Site::start().await;
    let snapshot = site.old_snapshot().await;
    let adoption = site.adopt();
    site.await_build().await;

    site.insert("meanwhile").await;

    site.await_build().await;
    assert!(!adoption.is_finished());
    drop(snapshot);
    done(adoption).await.unwrap();
    site.is_adopted().await;
    let copy = "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id,
        occurred_on, payload) SELECT event_id, '', 'T', aggregate_id, now(), '{}' FROM event_inbox
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id::text";
    assert!(site.texts(copy).await.is_empty());
}

/// The old index would refuse the events that another service has as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_service_waits_until_the_table_is_adopted() {
    let site = Site::start().await;
    let other = PgInbox::connect(site.database.url()).await.unwrap();
    let snapshot = site.old_snapshot().await;
    let adoption = site.adopt();
    site.await_build().await;
    let early = other.check_schema().await.unwrap_err();
    let keeps_constraint_away = site.long_transaction().await;
    drop(snapshot);
    site.await_exclusive_lock().await;

    // All indexes are there by now.
    let late = other.check_schema().await.unwrap_err();

    for error in [early, late] {
        assert!(error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("adoption"), "{error}");
    }
    drop(keeps_constraint_away);
    done(adoption).await.unwrap();
    other.check_schema().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_while_a_long_transaction_keeps_the_table() {
    let site = Site::start().await;
    let snapshot = site.old_snapshot().await;
    let keeps_columns_away = site.long_transaction().await;
    let adoption = site.adopt();
    site.await_exclusive_lock().await;

    site.insert("before").await;

    drop(keeps_columns_away);
    site.await_build().await;
    let keeps_constraint_away = site.long_transaction().await;
    drop(snapshot);
    site.await_exclusive_lock().await;

    site.insert("after").await;

    assert!(!adoption.is_finished());
    drop(keeps_constraint_away);
    done(adoption).await.unwrap();
    site.is_adopted().await;
}

/// What a process waits for that does not adopt the table must not be the end of the other's build,
/// whose end it waits for.
async fn two_adopt_at_once(site: &Site) {
    let snapshot = site.old_snapshot().await;
    let first = site.adopt();
    site.await_build().await;
    let options: PgConnectOptions = site.database.url().parse().unwrap();
    let second = PgPoolOptions::new()
        .connect_with(options.application_name("second"))
        .await
        .unwrap();
    let inbox = PgInbox::with_pool(second).consumer(CONSUMER);
    let inbox = inbox.connect().await.unwrap();
    let second = tokio::spawn(async move { inbox.migrate().await });
    let has_asked = "EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'second'
            AND (query = 'ROLLBACK' OR query LIKE '%advisory_xact_lock%'))";
    eventually(DEADLINE, async || site.is_true(has_asked).await).await;

    drop(snapshot);

    done(first).await.unwrap();
    done(second).await.unwrap();
    site.is_adopted().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_adopt_one_table() {
    let site = Site::start().await;
    two_adopt_at_once(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_adopt_one_table_where_transactions_are_isolated_by_default() {
    for isolation in ["repeatable read", "serializable"] {
        let site = Site::start().await;
        site.set("default_transaction_isolation", isolation).await;
        two_adopt_at_once(&site).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_was_ended_is_finished_by_the_next() {
    let site = Site::start().await;
    let snapshot = site.old_snapshot().await;
    let adoption = site.adopt();
    site.await_build().await;
    site.change(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index
         WHERE datname = current_database()",
    )
    .await;
    let error = done(adoption).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    drop(snapshot);
    let versions = "SELECT version::text FROM event_inbox_migrations";
    assert_eq!(site.texts(versions).await, ["0"]);
    let invalid = "NOT (SELECT indisvalid FROM pg_index
        WHERE indexrelid = 'uq_event_inbox_event'::regclass)";
    assert!(site.is_true(invalid).await);
    // As if it had come as far as that.
    site.change("CREATE INDEX ix_event_inbox_due ON event_inbox (consumer, id)")
        .await;
    let left = site.oid("uq_event_inbox_event").await;
    let kept = site.oid("ix_event_inbox_due").await;
    let other = PgInbox::builder(site.database.url()).consumer("shipping");
    let other = other.connect().await.unwrap();
    assert_eq!(
        other.migrate().await.unwrap_err().kind(),
        ErrorKind::Schema,
        "the owner is the first process's"
    );

    // Whose the rows are was said.
    let inbox = PgInbox::connect(site.database.url()).await.unwrap();
    inbox.migrate().await.unwrap();

    site.is_adopted().await;
    assert_ne!(site.oid("uq_event_inbox_event").await, left);
    assert_eq!(site.oid("ix_event_inbox_due").await, kept);
}

/// Another process may have the lock by then, and build the same indexes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_has_lost_its_lock_ends() {
    let site = Site::start().await;
    let snapshot = site.old_snapshot().await;
    let adoption = site.adopt();
    site.await_build().await;
    site.change(
        "SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .await;

    drop(snapshot);

    let error = done(adoption).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let built = "SELECT indexrelid::regclass::text FROM pg_index
        WHERE indrelid = 'event_inbox'::regclass AND indexrelid::regclass::text ~ '^ix_'";
    assert!(site.texts(built).await.is_empty());
    done(site.adopt()).await.unwrap();
    site.is_adopted().await;
}

/// A build may wait for longer than any statement of a service should; and what the adoption has set
/// for that is not left to the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_pool_of_one_connection_is_enough() {
    let site = Site::start().await;
    site.change("CREATE SCHEMA shop; ALTER TABLE event_inbox SET SCHEMA shop")
        .await;
    let snapshot = site.old_snapshot().await;
    let limits = [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    ];
    let options: PgConnectOptions = site.database.url().parse().unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET search_path TO shop").await?;
                Ok(())
            })
        })
        .connect_with(options.options(limits.map(|limit| (limit, "500"))))
        .await
        .unwrap();
    let inbox = PgInbox::with_pool(pool.clone()).consumer(CONSUMER);
    let inbox = inbox.connect().await.unwrap();
    let adoption = tokio::spawn(async move { inbox.migrate().await });
    let waits_for_long = "EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'CREATE%INDEX%' AND state = 'active'
            AND query_start < clock_timestamp() - INTERVAL '1 second')";
    eventually(DEADLINE, async || site.is_true(waits_for_long).await).await;

    drop(snapshot);
    done(adoption).await.unwrap();

    let indexes = "SELECT count(*)::text FROM pg_index
        WHERE indrelid = 'shop.event_inbox'::regclass AND indisvalid";
    assert_eq!(site.texts(indexes).await, ["8"]);
    for limit in limits {
        let show = AssertSqlSafe(format!("SHOW {limit}"));
        let value: String = sqlx::query_scalar(show).fetch_one(&pool).await.unwrap();
        assert_eq!(value, "500ms", "{limit}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_named_before_anything_is_changed() {
    let site = Site::start().await;
    site.change("CREATE INDEX ix_event_inbox_dead ON elsewhere (one)")
        .await;

    let error = done(site.adopt()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    let message = error.to_string();
    assert!(message.contains("`ix_event_inbox_dead`"), "{message}");
    let added = "EXISTS (SELECT FROM information_schema.columns
        WHERE table_name = 'event_inbox' AND column_name = 'consumer')";
    assert!(!site.is_true(added).await);
    site.change("DROP INDEX ix_event_inbox_dead").await;
    done(site.adopt()).await.unwrap();
    site.is_adopted().await;
}
