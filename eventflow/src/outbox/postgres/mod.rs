//! The outbox in PostgreSQL.

mod builder;
mod listen;
mod migrate;
mod row;
mod sql;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool, Postgres, postgres::PgRow};
use tokio::sync::watch;

pub use self::builder::PgOutboxBuilder;
use self::sql::Statements;
pub(crate) use self::writer::Writer;
use super::{
    InTransaction, Outbox, OutboxTable, OutboxTransaction, check_columns, failed,
    record::{self, entry},
    sealed::Sealed,
    table::{BYTES, Counts, DeadLetter, Demand, Fetched, LEASE, Marks, Retention, Term},
};
use crate::{
    database::{
        columns::{micros, storable},
        postgres::{
            connection::run,
            lease::Leases,
            parameters::{Parameters, Statement},
            place::Connected,
            session::Session,
            table::{self, Table},
        },
        sql::Sql,
        task::uncut,
    },
    error::Error,
};

/// The outbox in PostgreSQL, version 12 or newer.
///
/// Cloning is cheap; clones share their connections.
///
/// # Examples
/// ```no_run
/// use eventflow::{outbox::{OutboxTable, PgOutbox}, prelude::*};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let outbox = PgOutbox::connect("postgres://localhost/shop").await?;
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgOutbox {
    pool: PgPool,
    settings: Arc<Settings>,
}

struct Settings {
    table: Table,
    writer: Arc<Writer>,
    statements: Statements,
    leases: Leases,
    /// On which commits are told of.
    channel: String,
    notifies: bool,
    session: Session,
    /// The pool is the user's.
    is_users: bool,
    /// Changes when this process has committed events.
    committed: watch::Sender<()>,
}

impl PgOutbox {
    /// Connects to a database, with the default settings: table `event_outbox` in the first schema
    /// of the search path.
    ///
    /// # Errors
    /// If the URL cannot be read, or if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Starts with the settings of a database.
    pub fn builder(url: &str) -> PgOutboxBuilder {
        PgOutboxBuilder::url(url)
    }

    /// Starts with a pool of the user's; a relay needs two connections of it, and opens one more beside it,
    /// to listen.
    pub fn with_pool(pool: PgPool) -> PgOutboxBuilder {
        PgOutboxBuilder::pool(pool)
    }

    /// The SQL that creates the table `event_outbox`, for teams with migrations of their own; for
    /// other names see [`PgOutboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        PgOutboxBuilder::url("").schema_sql().unwrap_or_default()
    }

    /// `committed` changes when this process has committed events.
    pub(crate) fn new(connected: Connected, notify: bool, committed: watch::Sender<()>) -> Self {
        let Connected {
            pool,
            options,
            table,
            session,
        } = connected;
        Self {
            pool,
            settings: Arc::new(Settings {
                writer: Arc::new(Writer::new(&table, notify)),
                statements: Statements::new(&table),
                leases: Leases::of(&table),
                channel: writer::channel(&table),
                notifies: notify,
                table,
                session,
                is_users: options.is_none(),
                committed,
            }),
        }
    }

    /// Publishes in a transaction of the application's own, as [`Outbox::new`] does, to this table.
    ///
    /// The transaction must be one of the table's database.
    pub fn within<'t, T>(&self, transaction: &'t mut T) -> Outbox<InTransaction<'t, T>>
    where
        T: OutboxTransaction<Database = Postgres>,
    {
        Outbox {
            to: InTransaction {
                transaction,
                writer: Arc::clone(&self.settings.writer),
            },
        }
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.settings.writer
    }

    /// Checks that the database of a connection has the table.
    pub(crate) async fn check_in(&self, connection: &mut PgConnection) -> Result<(), Error> {
        migrate::check(connection, &self.settings.table).await
    }

    /// Runs one statement and gives its rows.
    async fn rows(&self, what: &'static str, statement: Statement) -> Result<Vec<PgRow>, Error> {
        let this = self.clone();
        uncut(async move {
            let rows = this.run(async |connection| statement.fetch_all(connection).await);
            rows.await.map_err(|error| this.failed(what, error))
        })
        .await
    }

    /// Runs one writing statement and counts the rows that it changed.
    async fn change(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let this = self.clone();
        uncut(async move {
            let done = this.run(async |connection| statement.execute(connection).await);
            done.await
                .map(|done| done.rows_affected())
                .map_err(|error| this.failed(what, error))
        })
        .await
    }

    async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Settings {
            is_users, session, ..
        } = &*self.settings;
        run(&self.pool, *is_users, session.patience(), statement).await
    }

    fn failed(&self, what: &str, error: sqlx::Error) -> Error {
        failed(format!("{what} in {}", self.settings.table), error)
    }

    fn unreadable(&self, error: sqlx::Error) -> Error {
        let table = &self.settings.table;
        failed(format!("a row of {table} cannot be read"), error)
    }
}

fn statement(sql: &Sql) -> Statement {
    sqlx::query(sql.text())
}

/// The values of the statement that marks and fetches.
fn advancing(term: &Term, marks: &Marks, demand: Demand) -> Result<Parameters, sqlx::Error> {
    let Marks { published, refused } = marks;
    let Demand {
        events,
        mut besides,
    } = demand;
    besides.extend(marks.rows());
    let mut parameters = Parameters::default();
    parameters.value(term.holder.to_string())?;
    parameters.value(term.number)?;
    parameters.array(published.iter().map(|(id, _)| *id))?;
    parameters.array(published.iter().map(|(_, stream_id)| entry(stream_id)))?;
    parameters.array(refused.iter().map(|(id, _)| *id))?;
    parameters.array(refused.iter().map(|(_, reason)| storable(reason)))?;
    parameters.value(besides)?;
    parameters.value(i64::from(events))?;
    parameters.value(BYTES)?;
    Ok(parameters)
}

impl Sealed for PgOutbox {}

impl OutboxTable for PgOutbox {
    async fn migrate(&self) -> Result<(), Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move { migrate::migrate(&pool, &settings.table).await }).await
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let this = self.clone();
        uncut(async move {
            let table = &this.settings.table;
            let columns = this.run(async |connection| table::columns(connection, table).await);
            let there = columns
                .await
                .map_err(|error| failed(format!("table {table} could not be looked at"), error))?;
            check_columns(table, &there)
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, Error> {
        let statement = statement(&self.settings.statements.counts);
        let rows = self.rows("events could not be counted", statement).await?;
        let counts = rows.first().map(record::counts).transpose();
        counts
            .map(Option::unwrap_or_default)
            .map_err(|error| self.unreadable(error))
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let statement = statement(&self.settings.statements.dead_letters).bind(i64::from(limit));
        let what = "dead letters could not be listed";
        let rows = self.rows(what, statement).await?;
        let letters = rows.iter().map(row::dead_letter).collect::<Result<_, _>>();
        letters.map_err(|error| self.unreadable(error))
    }

    async fn requeue(&self, ids: &[i64]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.requeue).bind(ids.to_vec());
        let what = "dead letters could not be requeued";
        let requeued = self.change(what, statement).await?;
        self.wake();
        Ok(requeued)
    }

    async fn discard(&self, ids: &[i64]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.discard).bind(ids.to_vec());
        let what = "dead letters could not be deleted";
        self.change(what, statement).await
    }

    fn wake(&self) {
        self.settings.committed.send_replace(());
    }

    fn woken(&self) -> watch::Receiver<()> {
        self.settings.committed.subscribe()
    }

    async fn listen(&self) -> Error {
        if !self.settings.notifies {
            std::future::pending::<()>().await;
        }
        let error = listen::listen(&self.pool, &self.settings).await;
        failed("commits of other processes could not be heard of", error)
    }

    async fn acquire(&self, holder: &Arc<str>, lease: Duration) -> Result<Option<Term>, Error> {
        let (this, holder) = (self.clone(), Arc::clone(holder));
        uncut(async move {
            let leases = &this.settings.leases;
            let acquired = this
                .run(async |connection| leases.acquire(connection, LEASE, &holder, lease).await);
            let number = acquired.await;
            let number =
                number.map_err(|error| this.failed("the relay's lease could not be had", error))?;
            Ok(number.map(|number| Term { holder, number }))
        })
        .await
    }

    async fn extend(&self, term: &Term, lease: Duration) -> Result<bool, Error> {
        let (this, term) = (self.clone(), term.clone());
        uncut(async move {
            let (leases, Term { holder, number }) = (&this.settings.leases, &term);
            let extended = this.run(async |connection| {
                let extend = leases.extend(connection, LEASE, holder, *number, lease);
                extend.await
            });
            let extended = extended.await;
            extended.map_err(|error| this.failed("the relay's lease could not be extended", error))
        })
        .await
    }

    async fn release(&self, term: &Term) -> Result<(), Error> {
        let (this, term) = (self.clone(), term.clone());
        uncut(async move {
            let (leases, Term { holder, number }) = (&this.settings.leases, &term);
            let released = this
                .run(async |connection| leases.release(connection, LEASE, holder, *number).await);
            let released = released.await;
            released.map_err(|error| this.failed("the relay's lease could not be ended", error))
        })
        .await
    }

    async fn advance(
        &self,
        term: &Term,
        marks: Arc<Marks>,
        deletes: bool,
        demand: Demand,
    ) -> Result<Option<Fetched>, Error> {
        let statements = &self.settings.statements;
        let sql = if deletes {
            &statements.delete
        } else {
            &statements.mark
        };
        let parameters = advancing(term, &marks, demand);
        let what = "events could not be marked and fetched";
        let parameters = parameters.map_err(|error| self.failed(what, error))?;
        // Planned each time: a plan that was made while the table was small would read all of it when it
        // has grown.
        let statement = parameters.of(sql).persistent(false);
        let rows = self.rows(what, statement).await?;
        record::fetched(&rows, |row| row::envelope(row, 1)).map_err(|error| self.unreadable(error))
    }

    async fn purge(&self, term: &Term, retention: Retention, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.purge)
            .bind(term.holder.to_string())
            .bind(term.number)
            .bind(micros(retention.published))
            .bind(micros(retention.dead_letter))
            .bind(i64::from(limit));
        let what = "published events could not be deleted";
        self.change(what, statement).await
    }
}

impl fmt::Debug for PgOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOutbox")
            .field("table", &self.settings.table.to_string())
            .finish_non_exhaustive()
    }
}
