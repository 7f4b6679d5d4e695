//! The unit of work: an open transaction with some events in it, and how it can be lost.
//!
//! Which events share a unit is the consumer's part.

use std::fmt;

use super::{Arrival, Holder, Insertion, Lease, Settlement, sealed};
use crate::{
    error::{BoxError, Error},
    outbox::Outgoing,
};

/// An open transaction with some events in it. Sealed, as [`Inbox`](super::Inbox).
///
/// Dropping a unit that was not committed closes its connection: nothing of it is stored, and the
/// connection never goes back to the pool.
///
/// One of which a method but [`check`](Self::check) has answered an error is lost, and to be dropped.
///
/// # Cancel safety
/// None of its methods may be cut but [`rollback`](Self::rollback), which may be repeated.
pub trait Unit: sealed::Sealed + Send + 'static {
    /// What a handler takes as `&mut`.
    type Connection: Send + 'static;

    /// The table of what handlers publish.
    type Outbox;

    /// The connection inside the transaction.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Checks that the transaction is as it should be, as far as is known without asking.
    ///
    /// # Errors
    /// If a handler has left a transaction of its own open, or has ended the unit's.
    fn check(&self) -> Result<(), UnitLost>;

    /// Sets the savepoint of an attempt.
    fn savepoint(&mut self) -> impl Future<Output = Result<(), UnitLost>> + Send;

    /// Keeps the attempt's writes. Answers `false` if an error that the handler swallowed has
    /// aborted the transaction: the attempt is then rolled back.
    ///
    /// It may set the next attempt's savepoint with it, which then asks for none.
    fn release(&mut self) -> impl Future<Output = Result<bool, UnitLost>> + Send;

    /// Takes the attempt's writes back, to the savepoint, which stays. `interrupt` first stops the
    /// query that a dropped call may have left running.
    fn rollback(&mut self, interrupt: bool) -> impl Future<Output = Result<(), UnitLost>> + Send;

    /// Stores arrivals; an event that is there already is left as it is. Those to run
    /// enter as `processed`: they are when the unit commits, unless they are amended.
    fn insert(
        &mut self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> impl Future<Output = Result<Insertion, UnitLost>> + Send;

    /// Writes the next states; answers the claims that held. The unit may be lost if one did not: its commit
    /// then says so.
    fn settle(
        &mut self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<Lease>, UnitLost>> + Send;

    /// Writes the next states of rows that this unit has inserted and that are not processed. The unit is lost if it does not find one of them.
    fn amend(
        &mut self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<(), UnitLost>> + Send;

    /// Writes down what handlers have published, in its order.
    fn publish(
        &mut self,
        outbox: &Self::Outbox,
        outgoing: &[Outgoing],
    ) -> impl Future<Output = Result<(), UnitLost>> + Send;

    /// Commits. The answer `Ok` means that everything since [`Inbox::begin`](super::Inbox::begin) is stored.
    fn commit(self) -> impl Future<Output = Result<(), UnitLost>> + Send;
}

/// Why a unit of work lost its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossKind {
    /// The database or the way to it: no event is to blame.
    Infrastructure,
    /// A serialization failure or a deadlock (40001, 40P01): run the same again.
    Conflict,
    /// A handler ended the transaction that is not its own, or an interrupted query did.
    Handler,
    /// The commit's answer did not come: it may have been stored.
    CommitUnknown,
}

/// A unit of work lost its transaction: nothing of it is stored, unless the kind says unknown.
pub struct UnitLost {
    kind: LossKind,
    message: String,
    source: Option<BoxError>,
}

impl UnitLost {
    pub(crate) fn new(kind: LossKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn still_in_use() -> Self {
        Self::new(
            LossKind::Handler,
            "a layer kept the transaction beyond the attempt; do not run the inner service in a task that outlives the call",
        )
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn row_gone() -> Self {
        Self::new(
            LossKind::Handler,
            "a row that the unit has inserted cannot be found in it; a handler or a trigger must not change the inbox",
        )
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn row_changed() -> Self {
        Self::new(
            LossKind::Handler,
            "a row of the unit was changed within it; a handler or a trigger must not change the inbox",
        )
    }

    pub(crate) fn lease_lost() -> Self {
        Self::new(
            LossKind::Infrastructure,
            "another worker has taken over an event of the unit",
        )
    }

    /// Why.
    pub fn kind(&self) -> LossKind {
        self.kind
    }
}

/// The runtime ended before the database's answer came.
impl From<Error> for UnitLost {
    fn from(error: Error) -> Self {
        Self {
            kind: LossKind::Infrastructure,
            message: error.to_string(),
            source: Some(error.into()),
        }
    }
}

impl fmt::Debug for UnitLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitLost")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for UnitLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UnitLost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
