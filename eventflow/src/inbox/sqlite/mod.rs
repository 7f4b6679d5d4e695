//! The inbox in SQLite: a file, or a database in memory.
//!
//! SQLite has one writer at a time, so there is one connection that writes, and units of work run
//! one after the other. Reading goes through connections of its own.

mod batch;
mod builder;
mod inbox;
mod insert;
mod migrate;
mod ordered;
mod row;
mod settle;
mod sql;
mod turn;
mod unit;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use sqlx::{
    Row as _, Sqlite, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteArguments, SqliteRow},
};
use tokio::sync::watch;

use self::sql::Statements;
pub use self::{builder::SqliteInboxBuilder, unit::SqliteUnit};
use crate::{
    database::{
        columns::from_micros,
        identifier::Identifier,
        numbers::Numbers as _,
        sql::Sql,
        sqlite::{lease::Leases, place::Connections},
        task::uncut,
    },
    error::Error,
    inbox::{Order, Settlement, failed},
};

/// The inbox in a SQLite file or in memory.
///
/// One process at a time: a handler that takes the transaction holds the database's only write
/// lock. Cloning is cheap.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let inbox = SqliteInbox::in_memory().await?;
/// inbox.migrate().await?;
/// assert_eq!(inbox.counts("billing").await?.pending, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteInbox {
    database: Arc<Database>,
    order: Option<Order>,
}

struct Database {
    table: Identifier,
    statements: Arc<Statements>,
    leases: Leases,
    connections: Arc<Connections>,
    /// Changes when this process has committed what handlers published.
    published: watch::Sender<()>,
}

impl SqliteInbox {
    /// Opens a database file; one that is not there is created.
    ///
    /// Write-ahead log, `synchronous = FULL`, foreign keys checked, five seconds of patience with
    /// other writers.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open().await
    }

    /// Opens a new database in memory, which lasts as long as this value and its clones.
    ///
    /// # Errors
    /// If SQLite cannot start.
    pub async fn in_memory() -> Result<Self, Error> {
        SqliteInboxBuilder::memory().open().await
    }

    /// Starts with the settings of a database file.
    pub fn builder(path: impl AsRef<Path>) -> SqliteInboxBuilder {
        SqliteInboxBuilder::file(path.as_ref())
    }

    /// The SQL that creates the table `event_inbox`, for teams with migrations of their own; for
    /// another name see [`SqliteInboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        SqliteInboxBuilder::memory()
            .schema_sql()
            .unwrap_or_default()
    }

    /// The connection that writes, as a pool: for tables of one's own in the same database.
    ///
    /// Waits while a unit of work is open; a handler that waits for it waits for itself.
    pub fn pool(&self) -> &SqlitePool {
        &self.database.connections.writer
    }

    /// Runs one statement that writes, and reads the rows that it answers.
    async fn written<T>(
        &self,
        what: &'static str,
        statement: Statement,
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Error> {
        let writer = &self.database.connections.writer;
        self.rows(writer, what, statement, read).await
    }

    /// Runs one statement that writes nothing, and reads its rows.
    async fn seen<T>(
        &self,
        what: &'static str,
        statement: Statement,
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Error> {
        let reader = &self.database.connections.reader;
        self.rows(reader, what, statement, read).await
    }

    async fn rows<T>(
        &self,
        pool: &SqlitePool,
        what: &'static str,
        statement: Statement,
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Error> {
        let (pool, table) = (pool.clone(), self.database.table.clone());
        let rows = uncut(async move {
            let rows = statement.fetch_all(&pool).await;
            rows.map_err(|error| failed(format!("{what} in {table}"), error))
        })
        .await?;
        let table = &self.database.table;
        let read: Result<_, _> = rows.iter().map(read).collect();
        read.map_err(|error| failed(format!("a row of {table} cannot be read"), error))
    }

    /// Runs one statement that counts rows.
    async fn count(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let counts = self.seen(what, statement, |row| row.count(0)).await?;
        Ok(counts.into_iter().sum())
    }

    /// Asks how long until something is to happen to a consumer's rows.
    async fn wait(
        &self,
        what: &'static str,
        sql: &Sql,
        consumer: &str,
    ) -> Result<Option<Duration>, Error> {
        let statement = statement(sql).bind(consumer.to_owned());
        let waits = self.seen(what, statement, |row| row.try_get(0)).await?;
        Ok(waits.first().copied().map(from_micros))
    }

    /// Runs one writing statement and counts the rows that it changed.
    async fn change(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let pool = self.database.connections.writer.clone();
        let table = self.database.table.clone();
        uncut(async move {
            let done = statement.execute(&pool).await;
            done.map(|done| done.rows_affected())
                .map_err(|error| failed(format!("{what} in {table}"), error))
        })
        .await
    }

    /// Settles rows that are all processed and still the holder's; answers whether they were.
    async fn settle_processed(&self, settlements: &[Settlement]) -> Result<bool, Error> {
        let statement = settle::settle_processed(&self.database.statements, settlements);
        let Some(settle) = statement.map_err(|error| self.unwritten(error))? else {
            return Ok(false);
        };
        let rows = settlements.len();
        let database = Arc::clone(&self.database);
        uncut(async move {
            let mut connection = database.connection().await?;
            let settled = settle::settle_processed_alone(&mut connection, settle, rows).await;
            let table = &database.table;
            settled.map_err(|error| failed(format!("rows could not be settled in {table}"), error))
        })
        .await
    }

    /// Writes a batch for one statement.
    fn batch(&self, batch: Result<String, sqlx::Error>) -> Result<String, Error> {
        batch.map_err(|error| self.unwritten(error))
    }

    fn unwritten(&self, error: sqlx::Error) -> Error {
        let table = &self.database.table;
        failed(format!("a batch for {table} cannot be written"), error)
    }
}

/// A statement with its values.
type Statement = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

fn statement(sql: &Sql) -> Statement {
    sqlx::query(sql.text())
}

impl Database {
    async fn connection(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let connection = self.connections.writer.acquire().await;
        connection.map_err(|error| failed("the database gave no connection", error))
    }
}

impl fmt::Debug for SqliteInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteInbox")
            .field("table", &self.database.table.as_str())
            .finish_non_exhaustive()
    }
}
