//! What the relay and the consumer ask of the table.

use std::fmt;

use super::sealed::Sealed;
use crate::error::Error;

/// The table of events that are to be published. Sealed: [`PgOutbox`](super::PgOutbox) and
/// [`SqliteOutbox`](super::SqliteOutbox) implement it.
///
/// Every method but [`migrate`](Self::migrate) is one short transaction that has committed when it
/// answers.
///
/// # Cancel safety
/// The database work of each method runs in a task of its own, so a dropped future never leaves a
/// connection inside a transaction; whether the work was done is then unknown.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an outbox's table",
    label = "not an `OutboxTable`",
    note = "use `PgOutbox` or `SqliteOutbox`"
)]
pub trait OutboxTable: Sealed + Clone + fmt::Debug + Send + Sync + 'static {
    /// Creates or updates the table. Does nothing if it is up to date; safe when many processes
    /// call it at once: one does it, the others wait.
    ///
    /// # Errors
    /// If the database refuses a statement or cannot be reached, or if the table is not one that an
    /// outbox can use.
    ///
    /// # Cancel safety
    /// A dropped future does not end the migration: it goes on while the process lives.
    fn migrate(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Checks that the table is there, with all its columns.
    ///
    /// # Errors
    /// If it is not, or the database cannot be reached.
    fn check_schema(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Wakes the relays of this process: events were committed.
    fn wake(&self);
}
