//! Where the database is, and what its table is called.

use std::{fmt, time::Duration};

use sqlx::PgPool;
use tokio::sync::watch;

use super::{PgOutbox, migrate};
use crate::{
    database::postgres::place::Place,
    error::{Error, ErrorKind},
    outbox::{CONNECTIONS, TABLE},
};

/// Settings of a [`PgOutbox`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is connected"]
pub struct PgOutboxBuilder {
    place: Place,
    notify: bool,
}

impl PgOutboxBuilder {
    fn new(place: Place) -> Self {
        Self {
            place,
            notify: true,
        }
    }

    pub(super) fn url(url: &str) -> Self {
        Self::new(Place::url(url, TABLE))
    }

    pub(super) fn pool(pool: PgPool) -> Self {
        Self::new(Place::pool(pool, TABLE))
    }

    /// Names the schema of the table. Default: the first of the search path. At most 48 of a-z,
    /// 0-9 and _, and no digit first.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.place.schema = Some(schema.into());
        self
    }

    /// Names the table. Default: `event_outbox`. At most 48 of a-z, 0-9 and _, and no digit first.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.place.table = table.into();
        self
    }

    /// Whether relays of other processes are told at each commit that publishes, by `NOTIFY`. Default:
    /// yes, once for each transaction. Without it they find events when they next poll.
    ///
    /// Postgres commits transactions that notify one after the other: switch it off where thousands of
    /// them commit each second, and publish by
    /// [`within`](PgOutbox::within): [`Outbox::new`](crate::Outbox::new) notifies always. It is of no use through a pooler that shares sessions.
    pub fn notify(mut self, on: bool) -> Self {
        self.notify = on;
        self
    }

    /// Ends a statement after this time. Default: 30 s; zero is never.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.place.session.statement_timeout = timeout;
        self
    }

    /// Whether connections are opened with settings of their own, as
    /// [`PgInboxBuilder::session_options`](crate::inbox::PgInboxBuilder::session_options). Default:
    /// yes; no with a pool of the user's.
    pub fn session_options(mut self, on: bool) -> Self {
        self.place.session.options = on;
        self
    }

    /// The SQL that [`migrate`](crate::outbox::OutboxTable::migrate) runs on an empty database, for
    /// teams with migrations of their own. A schema of one's own must be there.
    ///
    /// # Errors
    /// If a name is not one that a table takes.
    pub fn schema_sql(&self) -> Result<String, Error> {
        Ok(migrate::schema_sql(&self.place.table()?))
    }

    /// Connects.
    ///
    /// # Errors
    /// If a name or the URL is not one that an outbox takes, or if the server cannot be reached.
    pub async fn connect(self) -> Result<PgOutbox, Error> {
        let notify = self.notify;
        let connected = self.place.connect(CONNECTIONS, ErrorKind::Outbox).await?;
        Ok(PgOutbox::new(connected, notify, watch::Sender::default()))
    }
}

impl fmt::Debug for PgOutboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOutboxBuilder")
            .field("schema", &self.place.schema)
            .field("table", &self.place.table)
            .finish_non_exhaustive()
    }
}
