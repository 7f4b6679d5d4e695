//! The outbox in SQLite.

mod builder;
mod migrate;
mod writer;

use std::{fmt, path::Path, sync::Arc};

use sqlx::SqliteConnection;
use tokio::sync::watch;

pub use self::builder::SqliteOutboxBuilder;
pub(crate) use self::writer::Writer;
use super::{InTransaction, Outbox, OutboxTable, OutboxTransaction, failed, sealed::Sealed};
use crate::{
    database::{identifier::Identifier, sqlite::place::Connections, task::uncut},
    error::Error,
};

/// The outbox in a SQLite file.
///
/// An inbox in the same file has it too, by [`SqliteInbox::outbox`](crate::SqliteInbox::outbox), with
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

    pub(crate) fn new(table: Identifier, connections: Arc<Connections>) -> Self {
        Self {
            database: Arc::new(Database {
                writer: Arc::new(Writer::new(&table)),
                table,
                connections,
                committed: watch::Sender::default(),
            }),
        }
    }

    /// Publishes in a transaction of the application's own, as [`Outbox::new`] does, to this table.
    ///
    /// The transaction must be one of the table's database.
    pub fn within<'t, T>(&self, transaction: &'t mut T) -> Outbox<InTransaction<'t, T>>
    where
        T: OutboxTransaction<Writer = Arc<Writer>>,
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

    fn wake(&self) {
        self.database.committed.send_replace(());
    }
}

impl fmt::Debug for SqliteOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOutbox")
            .field("table", &self.database.table.as_str())
            .finish_non_exhaustive()
    }
}
