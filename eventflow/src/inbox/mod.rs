//! The inbox: the table that holds every event once, and the states of its rows.
//!
//! ```text
//!                     insert                claim, insert for a run
//!   (new) ────────▶ pending ───────────────────────▶ processing ──▶ processed
//!                      ▲                              │  ▲    │
//!                      │ requeue      settle: failed  ▼  │    │ settle: dead letter
//!                      │                            failed    ▼
//!                      └───────────────────────────────── dead_letter
//! ```
//!
//! A unit of work may also insert rows and commit them in the state that they have come to: `processed`
//! most often, which then was never `processing`.
//!
//! A `processing` row is owned by a lease: holder, end, and a fencing token that grows with each
//! claim. Every change of an owned row names its token; a row whose token has moved on is not
//! changed. All times are the database's.
//!
//! Which row runs when, and what its handler's answer means, is [`consumer`](crate::consumer)'s
//! part.

pub mod backoff;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod columns;
mod order;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod place;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod record;
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;
mod unit;

use std::{fmt, time::Duration};

use uuid::Uuid;

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::{PgInbox, PgInboxBuilder, PgUnit};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::{SqliteInbox, SqliteInboxBuilder, SqliteUnit};
pub use self::{
    order::{Order, OrderPolicy, OrderedInbox, ReaderLease},
    row::{
        Admission, Arrival, Counts, DeadLetter, Demand, Due, Holder, Insertion, Lease, Recovery,
        Retention, Row, Settlement, Status,
    },
    unit::{LossKind, Unit, UnitLost},
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::{database, error::ErrorKind};
use crate::{error::Error, outbox::OutboxTable};

pub(crate) use self::row::LARGEST_BATCH;

pub(crate) mod sealed {
    /// Keeps the inbox's traits to this crate: their methods may change in any version.
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed {}
}

/// The table that holds every event once; [`OrderedInbox`] has what keeps an order. Sealed: [`PgInbox`] and [`SqliteInbox`] implement it.
///
/// Every method but [`migrate`](Self::migrate) is one short transaction that has committed when it
/// answers.
///
/// # Cancel safety
/// The database work of each method runs in a task of its own, so a dropped future never leaves a
/// connection inside a transaction; whether the work was done is then unknown.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Inbox`",
    label = "not an `Inbox`",
    note = "use `PgInbox` or `SqliteInbox`"
)]
pub trait Inbox: OrderedInbox + Clone + fmt::Debug + 'static {
    /// What a handler takes as `&mut`.
    type Connection: Send + 'static;

    /// An open transaction with some events in it.
    type Unit: Unit<Connection = Self::Connection, Outbox = Self::Outbox>;

    /// The table of what handlers publish.
    type Outbox: OutboxTable;

    /// Creates or updates the table. Does nothing if it is up to date; safe when many processes
    /// call it at once: one does it, the others wait.
    ///
    /// A new table is made in one transaction. A table of the Python package in Postgres is adopted
    /// while its service goes on: its indexes are built concurrently, each of which waits for every
    /// transaction that is older than itself. Only before and after that is the table locked, by two
    /// short transactions. Each waits for that lock for 1 s at most, and so does who comes after it;
    /// while a long transaction has the table, it tries again, for ever and with a warning in the log.
    /// What keeps other processes out is a connection beside the pool's. An adoption that ends early is
    /// gone on with by the next call.
    ///
    /// A build is a statement outside of a transaction: through a pooler, give the adoption a connection
    /// to the server itself.
    ///
    /// # Errors
    /// If the database refuses a statement or cannot be reached, or if the table is not one that an
    /// inbox can use.
    ///
    /// # Cancel safety
    /// A dropped future does not end the migration: it goes on while the process lives.
    fn migrate(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Checks that the table is there, with all its columns and what keeps an event from being
    /// stored twice.
    ///
    /// # Errors
    /// If it is not, or the database cannot be reached; a transient one while the table is being
    /// adopted.
    fn check_schema(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// The outbox in the same database and schema, in the table `event_outbox`.
    fn outbox(&self) -> Self::Outbox;

    /// Checks that an outbox's table is in the inbox's database.
    ///
    /// # Errors
    /// If it is not, or the database cannot be reached.
    fn check_outbox(&self, outbox: &Self::Outbox)
    -> impl Future<Output = Result<(), Error>> + Send;

    /// The same inbox with connections for what a consumer asks.
    ///
    /// # Errors
    /// If the connections are the user's own pool and too few, or if the inbox's rows belong to
    /// another service.
    fn sized_for(&self, demand: Demand<'_>) -> Result<Self, Error>;

    /// How many units of work can be open at once; what begins another waits.
    fn units_at_once(&self) -> usize;

    /// Whether statements store nothing that come after a handler has ended the unit's transaction.
    fn guards_units(&self) -> bool;

    /// Stores arrivals, all or none; an event that is there already is left as it is. No insert had these ids
    /// before, unless it has failed: what it may have stored without an answer is for
    /// [`insert_again`](Self::insert_again).
    fn insert(
        &self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> impl Future<Output = Result<Insertion, Error>> + Send;

    /// As [`insert`](Self::insert), of arrivals that an earlier insert was to store which was not answered:
    /// those that it has stored are duplicates.
    fn insert_again(
        &self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> impl Future<Output = Result<Insertion, Error>> + Send;

    /// Claims up to `limit` waiting rows, the longest due first.
    fn claim(
        &self,
        holder: &Holder,
        due: Due,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// Claims one row whose lease has lapsed. A lapse after an earlier recovery counts as a failed
    /// run.
    fn recover(&self, holder: &Holder) -> impl Future<Output = Result<Recovery, Error>> + Send;

    /// Extends leases; answers those that are still the holder's.
    fn extend(
        &self,
        holder: &Holder,
        leases: Vec<Lease>,
    ) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Hands rows back, due after `delay`, with no attempt counted; answers how many were still
    /// the holder's.
    fn release(
        &self,
        leases: Vec<Lease>,
        delay: Duration,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Writes the next states of rows that no unit of work has; answers the claims that held.
    fn settle(
        &self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Opens a unit of work.
    fn begin(&self) -> impl Future<Output = Result<Self::Unit, UnitLost>> + Send;

    /// Opens a unit of work that is lent to no handler, so that there is nothing to guard it against.
    fn begin_unlent(&self) -> impl Future<Output = Result<Self::Unit, UnitLost>> + Send {
        self.begin()
    }

    /// Counts the rows that are due, up to `limit`.
    fn backlog(
        &self,
        consumer: &str,
        limit: u32,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Counts the rows that are in the table, of arrivals whose insert was not answered.
    fn count_stored(&self, ids: &[Uuid]) -> impl Future<Output = Result<u64, Error>> + Send;

    /// How long until the next waiting row is due; `None` if none waits.
    fn next_due(
        &self,
        consumer: &str,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;

    /// How long until the next lease lapses unless it is extended; `None` if no row is owned.
    fn next_lapse(
        &self,
        consumer: &str,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;

    /// Makes parked rows of these types due, or all with `None`; answers how many.
    fn unpark(
        &self,
        consumer: &str,
        event_types: Option<&[&str]>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Deletes up to `limit` finished rows that are older than `retention`; answers how many.
    fn purge(
        &self,
        consumer: &str,
        retention: Retention,
        limit: u32,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Counts the rows by state.
    fn counts(&self, consumer: &str) -> impl Future<Output = Result<Counts, Error>> + Send;

    /// Lists up to `limit` dead letters, the newest first.
    fn dead_letters(
        &self,
        consumer: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, Error>> + Send;

    /// Makes dead letters due again with a fresh count of runs; answers how many. Those whose
    /// entry could not be read stay: there is no event in them to run.
    fn requeue(
        &self,
        consumer: &str,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Deletes dead letters; answers how many.
    fn discard(
        &self,
        consumer: &str,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// The error of a consumer whose name leaves no room for its streams' in that of a lease.
pub(crate) fn name_too_long(consumer: &str) -> Error {
    Error::configuration(format!(
        "the names of consumer `{consumer}` and of a stream are too long together to keep order; give the consumer a shorter one with `name(…)`"
    ))
}

/// The error of what the database refused, or could not be asked.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn failed(message: impl Into<String>, error: sqlx::Error) -> Error {
    database::error::failed(ErrorKind::Inbox, message, error)
}
