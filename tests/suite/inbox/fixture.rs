//! The databases that the cases run on.

use eventflow::{inbox::Inbox, prelude::*};
use eventflow_tests::postgres::Database;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgPool};
use tempfile::TempDir;

/// A database with an inbox and a table `effect (name)`, as the cases need it.
pub(super) trait Fixture: Sized {
    type Inbox: Inbox;

    /// A statement that runs for minutes.
    const ENDLESS: &str;

    /// The function that makes a JSON object of names and values.
    const JSON_OBJECT: &str;

    /// The database's clock, moved by some seconds, as the table holds times.
    fn in_seconds(seconds: i64) -> String;

    /// A time of the table in microseconds; the end of time is the largest number.
    fn micros(time: &str) -> String;

    fn inbox(&self) -> &Self::Inbox;

    /// Runs a statement as a handler would.
    async fn run(
        connection: &mut <Self::Inbox as Inbox>::Connection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error>;

    /// Begins a transaction as a handler would, and runs a statement in it.
    async fn run_nested(
        connection: &mut <Self::Inbox as Inbox>::Connection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error>;

    /// Runs a statement beside the inbox; answers how many rows it changed.
    async fn change(&self, sql: &str) -> u64;

    /// Reads one column of text beside the inbox.
    async fn texts(&self, sql: &str) -> Vec<String>;

    /// What was stored, in order.
    async fn effects(&self) -> Vec<String> {
        self.texts("SELECT name FROM effect ORDER BY name").await
    }
}

const EFFECTS: &str = "CREATE TABLE effect (name TEXT NOT NULL)";

/// A database of its own on the shared server.
pub(super) struct Postgres {
    pub(super) database: Database,
    inbox: PgInbox,
    beside: PgPool,
}

impl Postgres {
    pub(super) async fn start() -> Self {
        let database = Database::create().await;
        let inbox = PgInbox::connect(database.url()).await.unwrap();
        inbox.migrate().await.unwrap();
        let beside = PgPool::connect(database.url()).await.unwrap();
        beside.execute(EFFECTS).await.unwrap();
        Self {
            database,
            inbox,
            beside,
        }
    }
}

impl Fixture for Postgres {
    type Inbox = PgInbox;

    const ENDLESS: &str = "SELECT pg_sleep(600)";

    const JSON_OBJECT: &str = "json_build_object";

    fn in_seconds(seconds: i64) -> String {
        format!("(clock_timestamp() + {seconds} * INTERVAL '1 second')")
    }

    fn micros(time: &str) -> String {
        format!(
            "CASE {time} WHEN 'infinity' THEN {} ELSE CAST(EXTRACT(EPOCH FROM NULLIF({time}, 'infinity')) * 1000000 AS BIGINT) END",
            i64::MAX
        )
    }

    fn inbox(&self) -> &PgInbox {
        &self.inbox
    }

    async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn run_nested(
        connection: &mut PgConnection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error> {
        let mut nested = connection.begin().await?;
        nested.execute(sql).await?;
        nested.commit().await
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

/// A database in memory, or in a file that ends with the test.
pub(super) struct Sqlite {
    inbox: SqliteInbox,
    _folder: Option<TempDir>,
}

impl Sqlite {
    pub(super) async fn in_memory() -> Self {
        Self::of(SqliteInbox::in_memory().await.unwrap(), None).await
    }

    pub(super) async fn in_a_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = SqliteInbox::open(folder.path().join("inbox.db"));
        Self::of(inbox.await.unwrap(), Some(folder)).await
    }

    async fn of(inbox: SqliteInbox, folder: Option<TempDir>) -> Self {
        inbox.migrate().await.unwrap();
        inbox.pool().execute(EFFECTS).await.unwrap();
        Self {
            inbox,
            _folder: folder,
        }
    }
}

impl Fixture for Sqlite {
    type Inbox = SqliteInbox;

    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT COUNT(*) FROM n WHERE i < 0";

    const JSON_OBJECT: &str = "json_object";

    fn in_seconds(seconds: i64) -> String {
        format!("CAST((unixepoch('subsec') + {seconds}) * 1000000 AS INTEGER)")
    }

    fn micros(time: &str) -> String {
        time.to_owned()
    }

    fn inbox(&self) -> &SqliteInbox {
        &self.inbox
    }

    async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn run_nested(
        connection: &mut SqliteConnection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error> {
        let mut nested = connection.begin().await?;
        nested.execute(sql).await?;
        nested.commit().await
    }

    async fn change(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = self.inbox.pool().execute(sql).await.unwrap();
        done.rows_affected()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(self.inbox.pool())
            .await
            .unwrap()
    }
}

/// Runs each case on Postgres, on SQLite in memory, and on SQLite in a file.
macro_rules! on_each_database {
    ($($case:ident,)+) => {
        $crate::inbox::fixture::on_one_database!(postgres, Postgres::start, $($case,)+);
        $crate::inbox::fixture::on_one_database!(sqlite, Sqlite::in_memory, $($case,)+);
        $crate::inbox::fixture::on_one_database!(sqlite_file, Sqlite::in_a_file, $($case,)+);
    };
}

macro_rules! on_one_database {
    ($name:ident, $Database:ident :: $start:ident, $($case:ident,)+) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $crate::inbox::fixture::$Database::$start().await;
                super::$case(fixture).await;
            })+
        }
    };
}
pub(super) use {on_each_database, on_one_database};
