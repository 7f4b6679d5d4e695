//! The outbox: the table of events that are to be published, and the relay that publishes them.
//!
//! ```text
//!               relay: the broker has it
//!   pending ──────────────────────────────▶ published
//!    │   ▲
//!    │   │ requeue
//!    ▼   │ relay: the broker refuses it
//!   dead_letter
//! ```
//!
//! An event enters in the transaction that writes what it tells of: that of a handler, with
//! [`Outbox`] as a parameter, or one of the application's own, with [`Outbox::new`]. Both commit
//! together or not at all. The relay publishes what is committed, at least once: a process that dies
//! between the broker's answer and the mark in the table publishes the event again, with the same id,
//! by which a consumer's inbox knows it.
//!
//! Reading what is published is [`stream`](crate::stream)'s part.

mod buffer;
#[cfg(feature = "postgres")]
mod postgres;
mod publish;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod record;
mod relay;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;

pub(crate) use self::buffer::Outgoing;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::{PgOutbox, PgOutboxBuilder};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::{SqliteOutbox, SqliteOutboxBuilder};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use self::transaction::{InTransaction, OutboxDatabase, OutboxTransaction};
pub use self::{
    buffer::Buffer,
    publish::{Outbox, PublishError},
    relay::{Relay, RelayBuilder, RelayHandle, RelayHealth, RelayPhase, RelayReport},
    table::{Counts, DeadLetter, Demand, Fetched, Marks, OutboxTable, Pending, Retention, Term},
};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::error::{Error, ErrorKind};

pub(crate) mod sealed {
    /// Keeps the outbox's traits to this crate: their methods may change in any version.
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed {}
}

/// What the table is called unless it is named.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const TABLE: &str = "event_outbox";

/// Connections of an outbox: one for the relay's statements, one for whoever looks at the table.
#[cfg(feature = "postgres")]
pub(crate) const CONNECTIONS: u32 = 2;

/// Every column that the statements of either database name.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const COLUMNS: [&str; 17] = [
    "id",
    "event_id",
    "event_type",
    "aggregate_id",
    "correlation_id",
    "causation_id",
    "occurred_on",
    "payload",
    "payload_bytes",
    "headers",
    "status",
    "created_at",
    "publish_at",
    "published_at",
    "stream_id",
    "error_message",
    "last_error_at",
];

/// Checks that a table has every column.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn check_columns(table: &impl std::fmt::Display, there: &[String]) -> Result<(), Error> {
    let is_there = |column: &str| there.iter().any(|there| there == column);
    let message = match COLUMNS.iter().find(|column| !is_there(column)) {
        None => return Ok(()),
        Some(_) if there.is_empty() => format!(
            "there is no table {table}; call the outbox's `migrate()`, or apply its `schema_sql()`"
        ),
        Some(column) => format!(
            "table {table} has no column `{column}`: it is no outbox of this version; choose another name with `table(…)`, or make it from `schema_sql()`"
        ),
    };
    Err(Error::new(ErrorKind::Schema, message))
}

/// The error of what the database refused, or could not be asked.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn failed(message: impl Into<String>, error: sqlx::Error) -> Error {
    crate::database::error::failed(ErrorKind::Outbox, message, error)
}
