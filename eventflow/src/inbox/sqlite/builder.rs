//! Where the database is and what its table is called.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{Database, SqliteInbox, Statements, failed, migrate};
use crate::{database::identifier::Identifier, error::Error};

/// How long a connection waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read; SQLite has one that writes.
const READERS: u32 = 4;

/// Settings of a [`SqliteInbox`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is opened"]
pub struct SqliteInboxBuilder {
    place: Place,
    table: String,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Memory,
}

impl SqliteInboxBuilder {
    pub(super) fn file(path: &Path) -> Self {
        Self {
            place: Place::File(path.to_owned()),
            table: "event_inbox".to_owned(),
        }
    }

    pub(super) fn memory() -> Self {
        Self {
            place: Place::Memory,
            table: "event_inbox".to_owned(),
        }
    }

    /// Names the table. Default: `event_inbox`. At most 48 of a-z, 0-9 and _, and no digit first.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The SQL that [`migrate`](crate::Inbox::migrate) runs on an empty database, for teams with
    /// migrations of their own.
    ///
    /// # Errors
    /// If the table's name is not one that an inbox takes.
    pub fn schema_sql(&self) -> Result<String, Error> {
        Ok(migrate::schema_sql(&Identifier::new("table", &self.table)?))
    }

    /// Opens the database; a file that is not there is created.
    ///
    /// # Errors
    /// If the table's name is not one that an inbox takes, or if the file cannot be opened.
    pub async fn open(self) -> Result<SqliteInbox, Error> {
        let table = Identifier::new("table", &self.table)?;
        let options = SqliteConnectOptions::new()
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        match self.place {
            Place::File(path) => {
                let options = options
                    .filename(&path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full);
                let failed =
                    |error| failed(format!("{} could not be opened", path.display()), error);
                // The writer first: it creates the file and sets its journal mode.
                let writer = pool(1)
                    .connect_with(options.clone())
                    .await
                    .map_err(failed)?;
                let reader = pool(READERS).connect_lazy_with(options);
                Ok(inbox(table, writer, reader, None))
            }
            Place::Memory => {
                // A name that begins with a slash is one database for the whole process, which
                // lives as long as a connection to it: the anchor.
                let options = options
                    .filename(format!("/eventflow-{}", Uuid::now_v7()))
                    .vfs("memdb");
                let failed = |error| failed("the database in memory could not be opened", error);
                let anchor = SqliteConnection::connect_with(&options)
                    .await
                    .map_err(failed)?;
                let writer = pool(1).connect_with(options).await.map_err(failed)?;
                // Such a database has no log to read from while another connection writes.
                let reader = writer.clone();
                Ok(inbox(table, writer, reader, Some(anchor)))
            }
        }
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn inbox(
    table: Identifier,
    writer: SqlitePool,
    reader: SqlitePool,
    anchor: Option<SqliteConnection>,
) -> SqliteInbox {
    SqliteInbox {
        database: Arc::new(Database {
            statements: Arc::new(Statements::new(&table)),
            table,
            writer,
            reader,
            _anchor: anchor.map(std::sync::Mutex::new),
        }),
    }
}

impl fmt::Debug for SqliteInboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteInboxBuilder")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
