//! Where a database is, and the connections to it.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use crate::{
    database::error::failed,
    error::{Error, ErrorKind},
};

/// How long a connection waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read; SQLite has one that writes.
const READERS: u32 = 4;

/// A file, or a database in memory.
#[derive(Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Memory,
}

/// The connections to a database: one that writes, which is all that SQLite takes, and others that read.
pub(crate) struct Connections {
    pub(crate) writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    /// Keeps a database in memory alive while the writer's connection is replaced. The lock only
    /// makes the connection `Sync`.
    _anchor: Option<Mutex<SqliteConnection>>,
}

impl Place {
    /// Opens the database; a file that is not there is created. Errors are of `kind`.
    pub(crate) async fn open(self, kind: ErrorKind) -> Result<Connections, Error> {
        let options = SqliteConnectOptions::new()
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        match self {
            Self::File(path) => {
                let options = options
                    .filename(&path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full);
                let failed = |error| {
                    failed(
                        kind,
                        format!("{} could not be opened", path.display()),
                        error,
                    )
                };
                // The writer first: it creates the file and sets its journal mode.
                let writer = pool(1)
                    .connect_with(options.clone())
                    .await
                    .map_err(failed)?;
                let reader = pool(READERS).connect_lazy_with(options);
                Ok(Connections {
                    writer,
                    reader,
                    _anchor: None,
                })
            }
            Self::Memory => {
                // A name that begins with a slash is one database for the whole process, which
                // lives as long as a connection to it: the anchor.
                let options = options
                    .filename(format!("/eventflow-{}", Uuid::now_v7()))
                    .vfs("memdb");
                let failed =
                    |error| failed(kind, "the database in memory could not be opened", error);
                let anchor = SqliteConnection::connect_with(&options)
                    .await
                    .map_err(failed)?;
                let writer = pool(1).connect_with(options).await.map_err(failed)?;
                // Such a database has no log to read from while another connection writes.
                let reader = writer.clone();
                Ok(Connections {
                    writer,
                    reader,
                    _anchor: Some(Mutex::new(anchor)),
                })
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
