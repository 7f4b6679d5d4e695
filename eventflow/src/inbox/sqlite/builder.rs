//! Where the database is and what its table is called.

use std::{fmt, path::Path, sync::Arc};

use tokio::sync::watch;

use super::{Database, SqliteInbox, Statements, migrate};
use crate::{
    database::{
        identifier::Identifier,
        sqlite::{lease::Leases, place::Place},
    },
    error::{Error, ErrorKind},
};

/// Settings of a [`SqliteInbox`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is opened"]
pub struct SqliteInboxBuilder {
    place: Place,
    table: String,
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
        let connections = Arc::new(self.place.open(ErrorKind::Inbox).await?);
        Ok(SqliteInbox {
            database: Arc::new(Database {
                statements: Arc::new(Statements::new(&table)),
                leases: Leases::of(&table),
                table,
                connections,
                published: watch::Sender::default(),
            }),
            order: None,
        })
    }
}

impl fmt::Debug for SqliteInboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteInboxBuilder")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
