//! The outbox in SQLite.

mod advance;
mod builder;
mod migrate;
mod row;
mod sql;
mod writer;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteArguments, sqlite::SqliteRow};
use tokio::sync::watch;

pub use self::builder::SqliteOutboxBuilder;
use self::sql::Statements;
pub(crate) use self::writer::Writer;
use super::{
    InTransaction, Outbox, OutboxTable, OutboxTransaction, failed, record,
    sealed::Sealed,
    table::{Counts, DeadLetter, Demand, Fetched, LEASE, Marks, Retention, Term},
};
use crate::{
    database::{
        columns::micros,
        identifier::Identifier,
        sql::Sql,
        sqlite::{lease::Leases, place::Connections, values::json},
        task::uncut,
    },
    error::Error,
};

/// A statement with its values.
type Statement = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// The outbox in a SQLite file.
///
/// An inbox in the same file has it too, by [`Inbox::outbox`](crate::Inbox::outbox), with
/// the one connection that writes. Cloning is cheap.
///
/// # Examples
/// ```no_run
/// use eventflow::outbox::{OutboxTable, SqliteOutbox};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let outbox = SqliteOutbox::open("shop.db").await?;
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteOutbox {
    database: Arc<Database>,
}

struct Database {
    table: Identifier,
    writer: Arc<Writer>,
    statements: Statements,
    leases: Leases,
    connections: Arc<Connections>,
    /// Changes when this process has committed events.
    committed: watch::Sender<()>,
}

impl SqliteOutbox {
    /// Opens a database file; one that is not there is created.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open().await
    }

    /// Starts with the settings of a database file.
    pub fn builder(path: impl AsRef<Path>) -> SqliteOutboxBuilder {
        SqliteOutboxBuilder::file(path.as_ref())
    }

    /// The SQL that creates the table `event_outbox`, for teams with migrations of their own; for
    /// another name see [`SqliteOutboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        SqliteOutboxBuilder::file(Path::new(""))
            .schema_sql()
            .unwrap_or_default()
    }

    /// `committed` changes when this process has committed events.
    pub(crate) fn new(
        table: Identifier,
        connections: Arc<Connections>,
        committed: watch::Sender<()>,
    ) -> Self {
        Self {
            database: Arc::new(Database {
                writer: Arc::new(Writer::new(&table)),
                statements: Statements::new(&table),
                leases: Leases::of(&table),
                table,
                connections,
                committed,
            }),
        }
    }

    /// Publishes in a transaction of the application's own, as [`Outbox::new`] does, to this table.
    ///
    /// The transaction must be one of the table's database.
    pub fn within<'t, T>(&self, transaction: &'t mut T) -> Outbox<InTransaction<'t, T>>
    where
        T: OutboxTransaction<Database = Sqlite>,
    {
        Outbox {
            to: InTransaction {
                transaction,
                writer: Arc::clone(&self.database.writer),
            },
        }
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.database.writer
    }

    /// Checks that the database of a connection has the table.
    pub(crate) async fn check_in(&self, connection: &mut SqliteConnection) -> Result<(), Error> {
        migrate::check(connection, &self.database.table).await
    }

    /// Runs one statement and gives its rows.
    async fn rows(
        &self,
        what: &'static str,
        statement: Statement,
    ) -> Result<Vec<SqliteRow>, Error> {
        let this = self.clone();
        uncut(async move {
            let rows = statement.fetch_all(&this.database.connections.reader).await;
            rows.map_err(|error| this.failed(what, error))
        })
        .await
    }

    /// Runs one writing statement and counts the rows that it changed.
    async fn change(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let this = self.clone();
        uncut(async move {
            let done = statement.execute(this.writer_pool()).await;
            done.map(|done| done.rows_affected())
                .map_err(|error| this.failed(what, error))
        })
        .await
    }

    /// Writes rows for one statement.
    fn list(&self, ids: &[i64]) -> Result<String, Error> {
        json(ids).map_err(|error| self.failed("rows could not be named", error))
    }

    fn writer_pool(&self) -> &SqlitePool {
        &self.database.connections.writer
    }

    fn failed(&self, what: &str, error: sqlx::Error) -> Error {
        failed(format!("{what} in {}", self.database.table), error)
    }

    fn unreadable(&self, error: sqlx::Error) -> Error {
        let table = &self.database.table;
        failed(format!("a row of {table} cannot be read"), error)
    }
}

fn statement(sql: &Sql) -> Statement {
    sqlx::query(sql.text())
}

impl Sealed for SqliteOutbox {}

impl OutboxTable for SqliteOutbox {
    async fn migrate(&self) -> Result<(), Error> {
        let database = Arc::clone(&self.database);
        uncut(async move {
            let connection = database.connections.writer.acquire().await;
            let mut connection =
                connection.map_err(|error| failed("the database gave no connection", error))?;
            migrate::migrate(&mut connection, &database.table).await
        })
        .await
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let this = self.clone();
        uncut(async move {
            let connection = this.database.connections.reader.acquire().await;
            let mut connection =
                connection.map_err(|error| failed("the database gave no connection", error))?;
            this.check_in(&mut connection).await
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, Error> {
        let statement = statement(&self.database.statements.counts);
        let rows = self.rows("events could not be counted", statement).await?;
        let counts = rows.first().map(record::counts).transpose();
        counts
            .map(Option::unwrap_or_default)
            .map_err(|error| self.unreadable(error))
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let statement = statement(&self.database.statements.dead_letters).bind(limit);
        let what = "dead letters could not be listed";
        let rows = self.rows(what, statement).await?;
        let letters = rows.iter().map(row::dead_letter).collect::<Result<_, _>>();
        letters.map_err(|error| self.unreadable(error))
    }

    async fn requeue(&self, ids: &[i64]) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.requeue).bind(self.list(ids)?);
        let what = "dead letters could not be requeued";
        let requeued = self.change(what, statement).await?;
        self.wake();
        Ok(requeued)
    }

    async fn discard(&self, ids: &[i64]) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.discard).bind(self.list(ids)?);
        let what = "dead letters could not be deleted";
        self.change(what, statement).await
    }

    fn wake(&self) {
        self.database.committed.send_replace(());
    }

    fn woken(&self) -> watch::Receiver<()> {
        self.database.committed.subscribe()
    }

    /// No process tells another: they find events when they next poll.
    async fn listen(&self) -> Error {
        std::future::pending().await
    }

    async fn acquire(&self, holder: &Arc<str>, lease: Duration) -> Result<Option<Term>, Error> {
        let (this, holder) = (self.clone(), Arc::clone(holder));
        uncut(async move {
            let number = async {
                let mut connection = this.writer_pool().acquire().await?;
                let leases = &this.database.leases;
                leases.acquire(&mut connection, LEASE, &holder, lease).await
            };
            let number = number.await;
            let number =
                number.map_err(|error| this.failed("the relay's lease could not be had", error))?;
            Ok(number.map(|number| Term { holder, number }))
        })
        .await
    }

    async fn extend(&self, term: &Term, lease: Duration) -> Result<bool, Error> {
        let (this, Term { holder, number }) = (self.clone(), term.clone());
        uncut(async move {
            let extended = async {
                let mut connection = this.writer_pool().acquire().await?;
                let leases = &this.database.leases;
                let extend = leases.extend(&mut connection, LEASE, &holder, number, lease);
                extend.await
            };
            let extended = extended.await;
            extended.map_err(|error| this.failed("the relay's lease could not be extended", error))
        })
        .await
    }

    async fn release(&self, term: &Term) -> Result<(), Error> {
        let (this, Term { holder, number }) = (self.clone(), term.clone());
        uncut(async move {
            let released = async {
                let mut connection = this.writer_pool().acquire().await?;
                let leases = &this.database.leases;
                leases
                    .release(&mut connection, LEASE, &holder, number)
                    .await
            };
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
        let (this, term) = (self.clone(), term.clone());
        uncut(async move {
            let rows = advance::advance(&this.database, &term, &marks, deletes, &demand).await;
            let what = "events could not be marked and fetched";
            let rows = rows.map_err(|error| this.failed(what, error))?;
            record::fetched(&rows, |row| row::envelope(row, 1))
                .map_err(|error| this.unreadable(error))
        })
        .await
    }

    async fn purge(&self, term: &Term, retention: Retention, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.purge)
            .bind(term.holder.to_string())
            .bind(term.number)
            .bind(micros(retention.published))
            .bind(micros(retention.dead_letter))
            .bind(limit);
        let what = "published events could not be deleted";
        self.change(what, statement).await
    }
}

impl fmt::Debug for SqliteOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOutbox")
            .field("table", &self.database.table.as_str())
            .finish_non_exhaustive()
    }
}
