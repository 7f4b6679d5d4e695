//! The delivery: one attempt at one event; the request of every tower service here.
//!
//! The delivery lends the transaction to the handler. Opening, settling and committing it is the
//! consumer's part.

mod lent;
mod slot;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

pub use self::lent::Lent;
use self::slot::{Loan, Place, roll_back};
pub(crate) use self::slot::{Reservation, Slot, Taken, Writes};
use crate::{
    envelope::{Envelope, Metadata},
    handler::Failure,
    inbox::{Inbox, Unit},
    outbox::Outbox,
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
    /// What has not begun by then is not to begin.
    stopping: CancellationToken,
    /// The handler has not begun: its call waits, or was cut while it did.
    waiting: AtomicBool,
    slot: Slot<I::Unit>,
}

impl<I: Inbox> Delivery<I> {
    /// A delivery without a transaction, to call a service in a test.
    ///
    /// A handler that takes the transaction fails on it.
    pub fn detached(envelope: Envelope) -> Self {
        let never = CancellationToken::new();
        Self::new(envelope, DEFAULT_HANDLER_TIMEOUT, never)
    }

    pub(crate) fn new(
        envelope: Envelope,
        handler_timeout: Duration,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                envelope,
                handler_timeout,
                stopping,
                waiting: AtomicBool::new(false),
                slot: Slot::vacant(),
            }),
        }
    }

    /// A delivery whose transaction is to come: a call that asks for it before waits.
    pub(crate) fn reserved(
        envelope: Envelope,
        handler_timeout: Duration,
        stopping: CancellationToken,
    ) -> (Self, Reservation<I::Unit>) {
        let delivery = Self::new(envelope, handler_timeout, stopping);
        let reservation = delivery.inner.slot.reserve();
        (delivery, reservation)
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

    /// The transaction of the attempt: for services that are no router, and for layers that write
    /// beside the handler.
    ///
    /// After a handler that succeeded it goes on from the handler's writes; else it begins at a clean
    /// savepoint. So a layer writes after its inner service, not before it.
    ///
    /// # Errors
    /// If the attempt is over, no consumer made the delivery, the transaction is lost, or it has
    /// writes already that a service [kept](Transaction::keep).
    ///
    /// # Cancel safety
    /// Dropping the future or the transaction takes the writes back, the handler's too.
    pub async fn transaction(&self) -> Result<Transaction<I>, Failure> {
        let mut transaction = self.lend().await?;
        let Some(Place::Open {
            unit,
            is_shared,
            writes,
            outbox,
        }) = transaction.place.as_deref_mut()
        else {
            return Err(Failure::retry(NoTransaction));
        };
        transaction.follows_handler = *writes == Writes::Handled;
        match *writes {
            Writes::None | Writes::Handled => *writes = Writes::Unfinished,
            Writes::Kept => return Err(Failure::retry(AlreadyKept)),
            Writes::Failed | Writes::Unfinished => {
                roll_back(unit, *is_shared, writes).await?;
                *outbox = self.outbox();
            }
        }
        Ok(transaction)
    }

    pub(crate) fn slot(&self) -> &Slot<I::Unit> {
        &self.inner.slot
    }

    /// When nothing is to begin any more, because the consumer stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Waits for what a handler needs before it begins.
    pub(crate) async fn wait_for<F: Future>(&self, what: F) -> F::Output {
        let waiting = &self.inner.waiting;
        waiting.store(true, Ordering::Release);
        let answer = what.await;
        waiting.store(false, Ordering::Release);
        answer
    }

    /// Whether the call ended before its handler began: that is no attempt at the event.
    pub(crate) fn was_cut_while_waiting(&self) -> bool {
        self.inner.waiting.load(Ordering::Acquire)
    }

    /// Starts one call of a handler that takes the transaction, from a clean savepoint.
    pub(crate) async fn start_call(&self) -> Result<Transaction<I>, Failure> {
        let mut transaction = self.lend().await?;
        let Some(Place::Open {
            unit,
            is_shared,
            writes,
            outbox,
        }) = transaction.place.as_deref_mut()
        else {
            return Err(Failure::retry(NoTransaction));
        };
        match *writes {
            Writes::None => *writes = Writes::Unfinished,
            Writes::Kept => return Err(Failure::retry(AlreadyKept)),
            // A call that is repeated.
            Writes::Handled | Writes::Failed | Writes::Unfinished => {
                roll_back(unit, *is_shared, writes).await?;
                *outbox = self.outbox();
            }
        }
        Ok(transaction)
    }

    /// An empty outbox, for what the event causes.
    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::caused_by(self.inner.envelope.clone())
    }

    /// Waits for the unit, and asks the engine for it.
    async fn lend(&self) -> Result<Transaction<I>, Failure> {
        let slot = &self.inner.slot;
        slot.loan.want();
        let loan = Arc::clone(&slot.loan);
        let lock = Arc::clone(&slot.place).lock_owned();
        let mut place = self.wait_for(lock).await;
        if loan.is_over() {
            *place = Place::Vacant;
        }
        Ok(Transaction {
            place: Some(place),
            follows_handler: false,
            loan: Some(loan),
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
    /// It goes on from the writes of a handler that succeeded.
    follows_handler: bool,
    loan: Option<Arc<Loan>>,
}

/// Closes the connection at once if the consumer no longer waits for it.
impl<I: Inbox> Drop for Transaction<I> {
    fn drop(&mut self) {
        if let Some(loan) = &self.loan
            && loan.is_over()
            && let Some(place) = self.place.as_deref_mut()
        {
            *place = Place::Vacant;
        }
    }
}

impl<I: Inbox> Transaction<I> {
    /// What a handler gets that takes none.
    pub(crate) const fn none() -> Self {
        Self {
            place: None,
            follows_handler: false,
            loan: None,
        }
    }

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

    /// The outbox inside the transaction: what it takes is published if the writes are kept.
    ///
    /// # Errors
    /// If the delivery has no transaction.
    pub fn outbox(&mut self) -> Result<&mut Outbox, Failure> {
        match self.place.as_deref_mut() {
            Some(Place::Open { outbox, .. }) => Ok(outbox),
            _ => Err(Failure::retry(NoTransaction)),
        }
    }

    /// Lends the parts of the transaction to a handler. Called by generated code.
    ///
    /// # Errors
    /// If the delivery has no transaction.
    #[doc(hidden)]
    pub fn lend(&mut self) -> Result<Lent<'_, I>, Failure> {
        match self.place.as_deref_mut() {
            Some(Place::Open { unit, outbox, .. }) => Ok(Lent::new(unit.connection(), outbox)),
            _ => Err(Failure::retry(NoTransaction)),
        }
    }

    /// Keeps the writes, when the consumer gets `Ok` for this delivery.
    ///
    /// Dropped without this, the transaction takes them back.
    pub fn keep(mut self) {
        // A handler that is called once more takes these back with its own.
        let kept = if self.follows_handler {
            Writes::Handled
        } else {
            Writes::Kept
        };
        self.end(kept);
    }

    /// Notes how a handler's call ended, so that the writes of a failed one are rolled back.
    pub(crate) fn end_call(&mut self, succeeded: bool) {
        self.end(if succeeded {
            Writes::Handled
        } else {
            Writes::Failed
        });
    }

    fn end(&mut self, how: Writes) {
        if let Some(Place::Open { writes, .. }) = self.place.as_deref_mut() {
            *writes = how;
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

/// A handler that takes the transaction was called after its attempt, or without a consumer.
#[derive(Debug)]
struct NoTransaction;

impl fmt::Display for NoTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the delivery has no transaction: its attempt is over, or no consumer made it")
    }
}

impl std::error::Error for NoTransaction {}

/// The writes that a service kept would be lost, or mixed with those of a call that is repeated.
#[derive(Debug)]
struct AlreadyKept;

impl fmt::Display for AlreadyKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the transaction already has writes that a service kept; a layer writes after its inner service, and a service asks for the transaction once",
        )
    }
}

impl std::error::Error for AlreadyKept {}
