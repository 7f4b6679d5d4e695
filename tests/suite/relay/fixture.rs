//! The databases that the cases run on.

use std::time::Duration;

use eventflow::{
    outbox::{Outbox, PgOutbox, SqliteOutbox},
    prelude::*,
};
use eventflow_tests::{postgres::Database, worker::InboxAt};
use sqlx::{AssertSqlSafe, Executor as _, PgPool, SqlitePool};
use tempfile::TempDir;

/// A database with an outbox.
pub(super) trait Fixture: Sized + Send + Sync + 'static {
    type Outbox: OutboxTable;

    /// The database's clock, moved by some seconds, as the table holds times.
    fn in_seconds(seconds: i64) -> String;

    fn outbox(&self) -> &Self::Outbox;

    /// Writes events down in one transaction of the application's.
    async fn write(&self, envelopes: &[Envelope]);

    /// Writes an event down that is to be published so much later; answers its id.
    async fn write_delayed<E: Event + Sync>(&self, delay: Duration, event: &E) -> String;

    /// Runs a statement beside the relay; answers how many rows it changed.
    async fn change(&self, sql: &str) -> u64;

    /// Reads one column of text beside the relay.
    async fn texts(&self, sql: &str) -> Vec<String>;

    /// The ids of the events in a state, by their rows.
    async fn in_state(&self, status: &str) -> Vec<String> {
        let sql =
            format!("SELECT event_id FROM event_outbox WHERE status = '{status}' ORDER BY id");
        self.texts(&sql).await
    }
}

/// One whose file or server other processes find.
pub(super) trait Shared: Fixture {
    fn at(&self) -> InboxAt;
}

/// A database of its own on the shared server.
pub(super) struct Postgres {
    pub(super) database: Database,
    outbox: PgOutbox,
    pub(super) beside: PgPool,
}

impl Postgres {
    pub(super) async fn start() -> Self {
        let database = Database::create().await;
        let outbox = PgOutbox::connect(database.url()).await.unwrap();
        outbox.migrate().await.unwrap();
        let beside = PgPool::connect(database.url()).await.unwrap();
        Self {
            database,
            outbox,
            beside,
        }
    }
}

impl Fixture for Postgres {
    type Outbox = PgOutbox;

    fn in_seconds(seconds: i64) -> String {
        format!("(clock_timestamp() + {seconds} * INTERVAL '1 second')")
    }

    fn outbox(&self) -> &PgOutbox {
        &self.outbox
    }

    async fn write(&self, envelopes: &[Envelope]) {
        let mut transaction = self.beside.begin().await.unwrap();
        let mut outbox = Outbox::new(&mut transaction);
        for envelope in envelopes {
            outbox.publish_envelope(envelope.clone()).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn write_delayed<E: Event + Sync>(&self, delay: Duration, event: &E) -> String {
        let mut transaction = self.beside.begin().await.unwrap();
        let mut outbox = Outbox::new(&mut transaction);
        outbox.publish_in(delay, event).await.unwrap();
        transaction.commit().await.unwrap();
        let ids = self.texts("SELECT event_id FROM event_outbox ORDER BY id DESC LIMIT 1");
        ids.await.remove(0)
    }

    async fn change(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        self.beside.execute(sql).await.unwrap().rows_affected()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&self.beside)
            .await
            .unwrap()
    }
}

impl Shared for Postgres {
    fn at(&self) -> InboxAt {
        InboxAt::Postgres(self.database.url().to_owned())
    }
}

/// A database in memory, or in a file that ends with the test.
pub(super) struct Sqlite {
    inbox: SqliteInbox,
    outbox: SqliteOutbox,
    folder: TempDir,
}

impl Sqlite {
    pub(super) async fn in_memory() -> Self {
        Self::of(
            SqliteInbox::in_memory().await.unwrap(),
            tempfile::tempdir().unwrap(),
        )
        .await
    }

    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = SqliteInbox::open(folder.path().join("shop.db"));
        Self::of(inbox.await.unwrap(), folder).await
    }

    async fn of(inbox: SqliteInbox, folder: TempDir) -> Self {
        let outbox = inbox.outbox();
        outbox.migrate().await.unwrap();
        Self {
            inbox,
            outbox,
            folder,
        }
    }

    fn pool(&self) -> &SqlitePool {
        self.inbox.pool()
    }
}

impl Fixture for Sqlite {
    type Outbox = SqliteOutbox;

    fn in_seconds(seconds: i64) -> String {
        format!("CAST((unixepoch('subsec') + {seconds}) * 1000000 AS INTEGER)")
    }

    fn outbox(&self) -> &SqliteOutbox {
        &self.outbox
    }

    async fn write(&self, envelopes: &[Envelope]) {
        let mut transaction = self.pool().begin().await.unwrap();
        let mut outbox = Outbox::new(&mut transaction);
        for envelope in envelopes {
            outbox.publish_envelope(envelope.clone()).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn write_delayed<E: Event + Sync>(&self, delay: Duration, event: &E) -> String {
        let mut transaction = self.pool().begin().await.unwrap();
        let mut outbox = Outbox::new(&mut transaction);
        outbox.publish_in(delay, event).await.unwrap();
        transaction.commit().await.unwrap();
        let ids = self.texts("SELECT event_id FROM event_outbox ORDER BY id DESC LIMIT 1");
        ids.await.remove(0)
    }

    async fn change(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        self.pool().execute(sql).await.unwrap().rows_affected()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

impl Shared for Sqlite {
    fn at(&self) -> InboxAt {
        InboxAt::Sqlite(self.folder.path().join("shop.db"))
    }
}

/// Runs each case on Postgres, on SQLite in memory, and on SQLite in a file.
macro_rules! on_each_database {
    ($($case:ident,)+) => {
        $crate::relay::fixture::on_one_database!(postgres, Postgres::start, $($case,)+);
        $crate::relay::fixture::on_one_database!(sqlite, Sqlite::in_memory, $($case,)+);
        $crate::relay::fixture::on_one_database!(sqlite_file, Sqlite::start, $($case,)+);
    };
}

/// Runs each case on the databases that processes share.
macro_rules! on_each_shared_database {
    ($($case:ident,)+) => {
        $crate::relay::fixture::on_one_database!(postgres, Postgres::start, $($case,)+);
        $crate::relay::fixture::on_one_database!(sqlite_file, Sqlite::start, $($case,)+);
    };
}

macro_rules! on_one_database {
    ($name:ident, $Database:ident :: $start:ident, $($case:ident,)+) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $crate::relay::fixture::$Database::$start().await;
                super::$case(fixture).await;
            })+
        }
    };
}
pub(super) use {on_each_database, on_each_shared_database, on_one_database};
