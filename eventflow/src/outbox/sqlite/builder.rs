//! Where the database is and what its table is called.

use std::{fmt, path::Path, sync::Arc};

use tokio::sync::watch;

use super::{SqliteOutbox, migrate};
use crate::{
    database::{identifier::Identifier, sqlite::place::Place},
    error::{Error, ErrorKind},
    outbox::TABLE,
};

/// Settings of a [`SqliteOutbox`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is opened"]
pub struct SqliteOutboxBuilder {
    place: Place,
    table: String,
}

impl SqliteOutboxBuilder {
    pub(super) fn file(path: &Path) -> Self {
        Self {
            place: Place::File(path.to_owned()),
            table: TABLE.to_owned(),
        }
    }

    /// Names the table. Default: `event_outbox`. At most 48 of a-z, 0-9 and _, and no digit first.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The SQL that [`migrate`](crate::outbox::OutboxTable::migrate) runs on an empty database, for
    /// teams with migrations of their own.
    ///
    /// # Errors
    /// If the table's name is not one that a table takes.
    pub fn schema_sql(&self) -> Result<String, Error> {
        Ok(migrate::schema_sql(&Identifier::new("table", &self.table)?))
    }

    /// Opens the database; a file that is not there is created.
    ///
    /// # Errors
    /// If the table's name is not one that a table takes, or if the file cannot be opened.
    pub async fn open(self) -> Result<SqliteOutbox, Error> {
        let table = Identifier::new("table", &self.table)?;
        let connections = self.place.open(ErrorKind::Outbox).await?;
        let committed = watch::Sender::default();
        Ok(SqliteOutbox::new(table, Arc::new(connections), committed))
    }
}

impl fmt::Debug for SqliteOutboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOutboxBuilder")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
