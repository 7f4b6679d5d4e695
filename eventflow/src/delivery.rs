//! The delivery: one attempt at one event; the request of every tower service here.
//!
//! The delivery lends the transaction to the handler. Opening, settling and committing it is the
//! consumer's part.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    envelope::{Envelope, Metadata},
    handler::Failure,
    inbox::{Inbox, Unit, UnitLost},
};

/// How long a call of a handler may take when neither it nor the consumer says.
pub(crate) const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// One attempt at one event: what the consumer asks a service to handle.
///
/// A clone is cheap and means the same attempt. Once the attempt is over, no clone leads to its
/// transaction any more.
pub struct Delivery<I: Inbox> {
    inner: Arc<Inner<I>>,
}

struct Inner<I: Inbox> {
    envelope: Envelope,
    handler_timeout: Duration,
    slot: Slot<I::Unit>,
}

impl<I: Inbox> Delivery<I> {
    /// A delivery without a transaction, to call a service in a test.
    ///
    /// A handler that takes the transaction fails on it.
    pub fn detached(envelope: Envelope) -> Self {
        Self::new(envelope, DEFAULT_HANDLER_TIMEOUT)
    }

    pub(crate) fn new(envelope: Envelope, handler_timeout: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                envelope,
                handler_timeout,
                slot: Slot::vacant(),
            }),
        }
    }

    /// A delivery whose transaction is to come: a call that asks for it before waits.
    pub(crate) fn reserved(
        envelope: Envelope,
        handler_timeout: Duration,
    ) -> (Self, Reservation<I::Unit>) {
        let delivery = Self::new(envelope, handler_timeout);
        let place = Arc::clone(&delivery.inner.slot.place).try_lock_owned().ok();
        (delivery, Reservation { place })
    }

    /// The event as it came.
    pub fn envelope(&self) -> &Envelope {
        &self.inner.envelope
    }

    /// What is known about the event.
    pub fn metadata(&self) -> &Metadata {
        self.inner.envelope.metadata()
    }

    /// After which time a handler that says nothing itself is cut.
    pub fn handler_timeout(&self) -> Duration {
        self.inner.handler_timeout
    }

    /// The transaction of the attempt, from a clean savepoint: for services that are no router.
    ///
    /// # Errors
    /// If the attempt is over, no consumer made the delivery, or the transaction is lost.
    ///
    /// # Cancel safety
    /// Dropping the future or the transaction takes its writes back.
    pub async fn transaction(&self) -> Result<Transaction<I>, Failure> {
        self.start_call(true).await
    }

    pub(crate) fn slot(&self) -> &Slot<I::Unit> {
        &self.inner.slot
    }

    /// Starts one call of a handler: with the transaction, from a clean savepoint, if it takes
    /// one.
    pub(crate) async fn start_call(&self, transactional: bool) -> Result<Transaction<I>, Failure> {
        let slot = &self.inner.slot;
        let over = Arc::clone(&slot.over);
        if !transactional {
            return Ok(Transaction { place: None, over });
        }
        let mut place = Arc::clone(&slot.place).lock_owned().await;
        if over.load(Ordering::Acquire) {
            *place = Place::Vacant;
        }
        match &mut *place {
            Place::Vacant => return Err(Failure::retry(NoTransaction)),
            Place::Open { unit, writes } => {
                if *writes != Writes::None {
                    unit.rollback(*writes == Writes::Unfinished)
                        .await
                        .map_err(Failure::retry)?;
                }
                *writes = Writes::Unfinished;
            }
        }
        Ok(Transaction {
            place: Some(place),
            over,
        })
    }
}

impl<I: Inbox> Clone for Delivery<I> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<I: Inbox> fmt::Debug for Delivery<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("envelope", &self.inner.envelope)
            .finish_non_exhaustive()
    }
}

/// The transaction while one call of a handler has it.
///
/// Dropping it in the middle leaves unfinished writes, which whoever opens the slot next rolls
/// back.
pub struct Transaction<I: Inbox> {
    place: Option<OwnedMutexGuard<Place<I::Unit>>>,
    /// The consumer has given the attempt up.
    over: Arc<AtomicBool>,
}

/// Closes the connection at once if the consumer no longer waits for it.
impl<I: Inbox> Drop for Transaction<I> {
    fn drop(&mut self) {
        if self.over.load(Ordering::Acquire)
            && let Some(place) = self.place.as_deref_mut()
        {
            *place = Place::Vacant;
        }
    }
}

impl<I: Inbox> Transaction<I> {
    /// The connection inside the transaction.
    ///
    /// # Errors
    /// If the delivery has no transaction.
    pub fn connection(&mut self) -> Result<&mut I::Connection, Failure> {
        match self.place.as_deref_mut() {
            Some(Place::Open { unit, .. }) => Ok(unit.connection()),
            _ => Err(Failure::retry(NoTransaction)),
        }
    }

    /// Keeps the writes, when the consumer gets `Ok` for this delivery.
    ///
    /// Dropped without this, the transaction takes them back.
    pub fn keep(self) {
        self.end_call(true);
    }

    /// Notes how the call ended, so that the writes of a failed one are rolled back.
    pub(crate) fn end_call(mut self, succeeded: bool) {
        if let Some(Place::Open { writes, .. }) = self.place.as_deref_mut() {
            *writes = if succeeded {
                Writes::Finished
            } else {
                Writes::Failed
            };
        }
    }
}

impl<I: Inbox> fmt::Debug for Transaction<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("open", &self.place.is_some())
            .finish_non_exhaustive()
    }
}

/// Where the engine puts the open unit for the time of one attempt.
pub(crate) struct Slot<U> {
    place: Arc<Mutex<Place<U>>>,
    /// The attempt is over for the engine, though someone still holds the transaction.
    over: Arc<AtomicBool>,
}

/// The engine's word that a unit will come.
pub(crate) struct Reservation<U> {
    place: Option<OwnedMutexGuard<Place<U>>>,
}

impl<U> Reservation<U> {
    /// Lends the unit, which must stand right after a savepoint, to the attempt.
    pub(crate) fn fill(mut self, unit: U) {
        if let Some(place) = self.place.as_deref_mut() {
            *place = Place::Open {
                unit,
                writes: Writes::None,
            };
        }
    }
}

enum Place<U> {
    Vacant,
    Open { unit: U, writes: Writes },
}

/// What the calls of this attempt have left in the transaction since its savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// No call was made.
    None,
    /// The last call succeeded.
    Finished,
    /// The last call answered a failure.
    Failed,
    /// The last call was dropped: its query may still run at the server.
    Unfinished,
}

impl<U: Unit> Slot<U> {
    fn vacant() -> Self {
        Self {
            place: Arc::new(Mutex::new(Place::Vacant)),
            over: Arc::default(),
        }
    }

    /// Takes the unit back for good: a clone of the delivery that was kept finds no transaction.
    ///
    /// A layer that runs its inner service in a task of its own may still hold the transaction;
    /// after `patience` the unit is lost. It closes its connection when that task lets go.
    pub(crate) async fn empty(&self, patience: Duration) -> Result<(U, Writes), UnitLost> {
        let place = tokio::time::timeout(patience, self.place.lock()).await;
        let Ok(mut place) = place else {
            self.over.store(true, Ordering::Release);
            return Err(UnitLost::still_in_use());
        };
        let place = std::mem::replace(&mut *place, Place::Vacant);
        match place {
            Place::Open { unit, writes } => Ok((unit, writes)),
            Place::Vacant => Err(UnitLost::still_in_use()),
        }
    }
}

/// A handler that takes the transaction was called after its attempt, or without a consumer.
#[derive(Debug)]
struct NoTransaction;

impl fmt::Display for NoTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the delivery has no transaction: its attempt is over, or no consumer made it")
    }
}

impl std::error::Error for NoTransaction {}
