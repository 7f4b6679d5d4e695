//! The inbox in PostgreSQL.
//!
//! Every statement is an own short transaction but those of a unit of work. Any number of processes
//! share a table: rows are claimed with `SKIP LOCKED`, so none waits for another.

mod adopt;
mod builder;
mod check;
mod inbox;
mod index;
mod insert;
mod insert_sql;
mod jsonb;
mod migrate;
mod ordered;
mod row;
mod settle;
mod sql;
mod turn;
mod unit;

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{
    PgConnection, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::sync::watch;

use self::sql::Statements;
pub use self::{builder::PgInboxBuilder, unit::PgUnit};
use crate::{
    database::{
        columns::from_micros,
        numbers::Numbers as _,
        postgres::{
            connection::run,
            lease::Leases,
            parameters::{Parameters, Statement},
            session::Session,
            table::Table,
        },
        sql::Sql,
        task::uncut,
    },
    error::Error,
    inbox::{Order, failed},
};

/// The inbox in PostgreSQL, version 12 or newer.
///
/// Cloning is cheap; clones share their connections.
///
/// # Examples
/// ```no_run
/// use eventflow::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let inbox = PgInbox::connect("postgres://localhost/shop").await?;
/// inbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgInbox {
    pool: PgPool,
    settings: Arc<Settings>,
    order: Option<Order>,
}

struct Settings {
    table: Table,
    statements: Arc<Statements>,
    leases: Leases,
    /// Who owns the rows of an adopted table.
    consumer: Option<String>,
    /// How to open connections; none if the pool is the user's.
    options: Option<PgConnectOptions>,
    session: Session,
    max_connections: Option<u32>,
    /// Changes when this process has committed what handlers published.
    published: watch::Sender<()>,
}

impl Settings {
    /// Runs one statement, as the pool needs it.
    async fn run<T>(
        &self,
        pool: &PgPool,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let is_users = self.options.is_none();
        run(pool, is_users, self.session.patience(), statement).await
    }
}

impl PgInbox {
    /// Connects to a database, with the default settings: table `event_inbox` in the first schema
    /// of the search path.
    ///
    /// # Errors
    /// If the URL cannot be read, or if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Starts with the settings of a database.
    pub fn builder(url: &str) -> PgInboxBuilder {
        PgInboxBuilder::url(url)
    }

    /// Starts with a pool of the user's, which must have the connections that the consumer asks
    /// for: its workers and two more.
    ///
    /// A handler that is cut while it begins a transaction of its own on such a pool leaves the
    /// connection inside of it (sqlx 0.9.0). The inbox commits each statement there by a
    /// transaction of its own, which costs two round trips more.
    pub fn with_pool(pool: PgPool) -> PgInboxBuilder {
        PgInboxBuilder::pool(pool)
    }

    /// The SQL that creates the table `event_inbox`, for teams with migrations of their own; for
    /// other names see [`PgInboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        PgInboxBuilder::url("").schema_sql().unwrap_or_default()
    }

    /// Runs one statement and gives its rows.
    async fn fetch(&self, what: &'static str, statement: Statement) -> Result<Vec<PgRow>, Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let rows = settings.run(&pool, async |connection| {
                statement.fetch_all(connection).await
            });
            rows.await
                .map_err(|error| failed(format!("{what} in {}", settings.table), error))
        })
        .await
    }

    /// Runs one statement and reads its rows.
    async fn rows<T>(
        &self,
        what: &'static str,
        statement: Statement,
        read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.fetch(what, statement).await?;
        let read: Result<_, _> = rows.iter().map(read).collect();
        read.map_err(|error| self.unreadable(error))
    }

    /// Runs one statement that counts rows.
    async fn count(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let counts = self.rows(what, statement, |row| row.count(0)).await?;
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
        let waits = self.rows(what, statement, |row| row.try_get(0)).await?;
        Ok(waits.first().copied().map(from_micros))
    }

    /// Runs one writing statement and counts the rows that it changed.
    async fn change(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let done = settings.run(&pool, async |connection| {
                statement.execute(connection).await
            });
            done.await
                .map(|done| done.rows_affected())
                .map_err(|error| failed(format!("{what} in {}", settings.table), error))
        })
        .await
    }

    fn unreadable(&self, error: sqlx::Error) -> Error {
        let table = &self.settings.table;
        failed(format!("a row of {table} cannot be read"), error)
    }

    /// The statement of a batch.
    fn batch(
        &self,
        sql: &Sql,
        parameters: Result<Parameters, sqlx::Error>,
    ) -> Result<Statement, Error> {
        let parameters = parameters.map_err(|error| {
            let table = &self.settings.table;
            failed(format!("a batch for {table} cannot be written"), error)
        })?;
        Ok(parameters.of(sql))
    }
}

fn statement(sql: &Sql) -> Statement {
    sqlx::query(sql.text())
}

/// Takes a connection from the pool.
pub(crate) async fn connection(pool: &PgPool) -> Result<PoolConnection<Postgres>, Error> {
    let connection = pool.acquire().await;
    connection.map_err(|error| failed("the database gave no connection", error))
}

impl fmt::Debug for PgInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgInbox")
            .field("table", &self.settings.table.to_string())
            .finish_non_exhaustive()
    }
}
