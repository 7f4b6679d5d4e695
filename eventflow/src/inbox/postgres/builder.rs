//! Where the database is, what its table is called, and how its connections behave.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::watch;

use super::{PgInbox, Settings, migrate, sql::Statements};
use crate::{
    database::postgres::{
        lease::Leases,
        place::{Connected, Place},
    },
    error::{Error, ErrorKind},
};

/// What the table is called unless it is named.
const TABLE: &str = "event_inbox";

/// Connections of an inbox that no consumer has sized yet.
const CONNECTIONS: u32 = 10;

/// Settings of a [`PgInbox`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is connected"]
pub struct PgInboxBuilder {
    place: Place,
    consumer: Option<String>,
    max_connections: Option<u32>,
}

impl PgInboxBuilder {
    fn new(place: Place) -> Self {
        Self {
            place,
            consumer: None,
            max_connections: None,
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

    /// Names the table. Default: `event_inbox`. At most 48 of a-z, 0-9 and _, and no digit first.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.place.table = table.into();
        self
    }

    /// Names the service that owns the rows of a table which the Python package made: those that
    /// are there, and those that it inserts later. Needed only to adopt such a table.
    ///
    /// The same name as the consumer's: the group of its stream, unless set. A consumer of another
    /// name is refused when it is built, and a name that is not the owner's by
    /// [`migrate`](crate::Inbox::migrate): two services on one table have an inbox each, and the
    /// one that does not own Python's rows names none here.
    pub fn consumer(mut self, consumer: impl Into<String>) -> Self {
        self.consumer = Some(consumer.into());
        self
    }

    /// Opens at most this many connections. Default: what the consumer asks for, its workers and
    /// two more; a consumer refuses to start with fewer.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Ends a statement after this time, a handler's too. Default: 30 s; zero is never.
    ///
    /// A statement of a call that was dropped holds its transaction for that long at worst. A
    /// connection that has not answered a statement of the inbox 5 s after that is given up, also one
    /// of the user's pool, whose sessions do not have this limit.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.place.session.statement_timeout = timeout;
        self
    }

    /// Ends the wait for a row's lock after this time. Default: 5 s; zero is never.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.place.session.lock_timeout = timeout;
        self
    }

    /// Whether connections are opened with settings of their own: the timeouts, `TimeZone`, and a
    /// guard against writes of a handler that has ended its transaction. Default: yes; no with a
    /// pool of the user's.
    ///
    /// Switch it off behind a pooler that refuses them, and set the timeouts for the role.
    pub fn session_options(mut self, on: bool) -> Self {
        self.place.session.options = on;
        self
    }

    /// The SQL that [`migrate`](crate::Inbox::migrate) runs on an empty database, for teams with
    /// migrations of their own. A schema of one's own must be there.
    ///
    /// # Errors
    /// If a name is not one that an inbox takes.
    pub fn schema_sql(&self) -> Result<String, Error> {
        Ok(migrate::schema_sql(&self.place.table()?))
    }

    /// Connects.
    ///
    /// # Errors
    /// If a name or the URL is not one that an inbox takes, or if the server cannot be reached.
    pub async fn connect(self) -> Result<PgInbox, Error> {
        if self
            .consumer
            .as_ref()
            .is_some_and(|name| !(1..=255).contains(&name.chars().count()) || name.contains('\0'))
        {
            return Err(Error::configuration(
                "`consumer` must have 1 to 255 characters, and no NUL; leave it out if no Python table is adopted",
            ));
        }
        let connections = self.max_connections.unwrap_or(CONNECTIONS);
        let Connected {
            pool,
            options,
            table,
            session,
        } = self.place.connect(connections, ErrorKind::Inbox).await?;
        Ok(PgInbox {
            pool,
            settings: Arc::new(Settings {
                statements: Arc::new(Statements::new(&table)),
                leases: Leases::of(&table),
                table,
                consumer: self.consumer,
                options,
                session,
                max_connections: self.max_connections,
                published: watch::Sender::default(),
            }),
            order: None,
        })
    }
}

impl fmt::Debug for PgInboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgInboxBuilder")
            .field("schema", &self.place.schema)
            .field("table", &self.place.table)
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}
