//! The outbox in PostgreSQL.

mod builder;
mod migrate;
mod writer;

use std::{fmt, sync::Arc};

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

pub use self::builder::PgOutboxBuilder;
pub(crate) use self::writer::Writer;
use super::{InTransaction, Outbox, OutboxTable, OutboxTransaction, failed, sealed::Sealed};
use crate::{
    database::{
        postgres::{place::Connected, session::Session, table::Table},
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

    /// Starts with a pool of the user's; a relay needs two connections of it.
    pub fn with_pool(pool: PgPool) -> PgOutboxBuilder {
        PgOutboxBuilder::pool(pool)
    }

    /// The SQL that creates the table `event_outbox`, for teams with migrations of their own; for
    /// other names see [`PgOutboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        PgOutboxBuilder::url("").schema_sql().unwrap_or_default()
    }

    pub(crate) fn new(connected: Connected, notify: bool) -> Self {
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
                table,
                session,
                is_users: options.is_none(),
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
            let connection = this.pool.acquire().await;
            let mut connection =
                connection.map_err(|error| failed("the database gave no connection", error))?;
            this.check_in(&mut connection).await
        })
        .await
    }

    fn wake(&self) {
        self.settings.committed.send_replace(());
    }
}

impl fmt::Debug for PgOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOutbox")
            .field("table", &self.settings.table.to_string())
            .finish_non_exhaustive()
    }
}
