//! What the relay, the consumer and an operator ask of the table.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::sealed::Sealed;
use crate::{envelope::Envelope, error::Error};

/// Events by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Are due, and wait for a relay.
    pub pending: u64,
    /// Wait for their time.
    pub delayed: u64,
    /// Are at the broker, and kept for a while.
    pub published: u64,
    /// Are kept because the broker refuses them.
    pub dead_letter: u64,
    /// For how long the oldest pending event has been due.
    pub lag: Option<Duration>,
}

/// An event that is kept because the broker refuses it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The row.
    pub id: i64,
    /// The event.
    pub envelope: Envelope,
    /// Why.
    pub error_message: String,
    /// When it was refused.
    pub last_error_at: DateTime<Utc>,
}

/// How long rows are kept that are done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Published events.
    pub published: Duration,
    /// Dead letters.
    pub dead_letter: Duration,
}

/// One relay's time as the one that publishes a table's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The relay.
    pub holder: Arc<str>,
    /// Grows with each relay that takes over.
    pub number: i64,
}

/// An event that is due.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The row.
    pub id: i64,
    /// The event.
    pub envelope: Envelope,
    /// For how long it has been due.
    pub waited: Duration,
}

/// What a relay fetches next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// How many events at most.
    pub events: u32,
    /// The rows that are on their way to the broker.
    pub besides: Vec<i64>,
}

/// What became of events at the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The broker has them: the rows, and the ids of their entries.
    pub published: Vec<(i64, String)>,
    /// The broker refuses them: the rows, and why.
    pub refused: Vec<(i64, String)>,
}

impl Marks {
    /// Whether there is nothing to mark.
    pub fn is_empty(&self) -> bool {
        self.published.is_empty() && self.refused.is_empty()
    }

    /// The rows.
    #[cfg(feature = "postgres")]
    pub(super) fn rows(&self) -> impl Iterator<Item = i64> {
        let rows = self.published.iter().chain(&self.refused);
        rows.map(|(row, _)| *row)
    }
}

/// What a relay has fetched.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The events, in the order in which they are to be published.
    pub events: Vec<Pending>,
    /// How long until the next delayed event is due.
    pub next_due: Option<Duration>,
}

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

    /// Counts the events by state. Reads the whole table.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn counts(&self) -> impl Future<Output = Result<Counts, Error>> + Send;

    /// Lists up to `limit` dead letters, the newest first.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn dead_letters(
        &self,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, Error>> + Send;

    /// Makes dead letters pending again, with the ids that their events have; answers how many.
    ///
    /// Relays of this process are woken; others find them when they next poll.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn requeue(&self, ids: &[i64]) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Deletes dead letters; answers how many.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn discard(&self, ids: &[i64]) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Wakes the relays of this process: events were committed.
    fn wake(&self);

    /// Changes when the relays of this process are woken.
    fn woken(&self) -> watch::Receiver<()>;

    /// Wakes the relays of this process each time that another one has committed events, until the
    /// connection fails; answers why. Never ends where nobody tells.
    fn listen(&self) -> impl Future<Output = Error> + Send;

    /// Takes the lease of the table's relay if nobody else holds it; answers the new term.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn acquire(
        &self,
        holder: &Arc<str>,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Term>, Error>> + Send;

    /// Makes a term last for `lease` from now on; answers whether it is still the holder's.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn extend(
        &self,
        term: &Term,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Ends a term, for another relay to begin its own at once.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn release(&self, term: &Term) -> impl Future<Output = Result<(), Error>> + Send;

    /// Marks what the broker has answered, or deletes the rows if `deletes`, and fetches what is due
    /// next: those without a time by their ids, and beside them, up to half of all, those whose time has
    /// come. Of each up to 4 MiB, and at least one.
    ///
    /// `None`, and nothing is marked, if the term is over.
    ///
    /// # Errors
    /// If the database refuses a statement or cannot be reached. Marking once more does no harm.
    fn advance(
        &self,
        term: &Term,
        marks: Arc<Marks>,
        deletes: bool,
        demand: Demand,
    ) -> impl Future<Output = Result<Option<Fetched>, Error>> + Send;

    /// Deletes up to `limit` rows that are done with and older than `retention`, if the term is not
    /// over; answers how many.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    fn purge(
        &self,
        term: &Term,
        retention: Retention,
        limit: u32,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// The lease of the relay among those of the table.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) const LEASE: &str = "relay";

/// How many bytes of payload are fetched at once, of events with a time and of those without; at least
/// one event is.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) const BYTES: i64 = 4 * 1024 * 1024;
