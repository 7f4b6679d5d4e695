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
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::{PgOutbox, PgOutboxBuilder};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::{SqliteOutbox, SqliteOutboxBuilder};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "postgres", feature = "sqlite")))
)]
pub use self::transaction::{InTransaction, OutboxTransaction};
pub use self::{
    buffer::Buffer,
    publish::{Outbox, PublishError},
};
