//! The engine's side of a delivery: where it puts the open unit of work, and takes it back.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, OwnedMutexGuard},
    time::Instant,
};

use crate::{
    handler::Failure,
    inbox::{Unit, UnitLost},
    outbox::Outbox,
};

/// Where the engine puts the open unit for the time of one attempt.
pub(crate) struct Slot<U> {
    pub(super) place: Arc<Mutex<Place<U>>>,
    pub(super) loan: Arc<Loan>,
}

/// What is known of the unit while someone else has it.
#[derive(Default)]
pub(super) struct Loan {
    /// The attempt is over for the engine, though someone still holds the transaction.
    over: AtomicBool,
    /// Someone waits for the unit.
    wanted: Notify,
    /// When the unit came.
    lent_at: OnceLock<Instant>,
}

impl Loan {
    /// Asks the engine for the unit.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Whether the engine has given the attempt up.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The engine's word that a unit will come.
pub(crate) struct Reservation<U> {
    place: Option<OwnedMutexGuard<Place<U>>>,
    loan: Arc<Loan>,
}

impl<U> Reservation<U> {
    /// Lends the unit, which must stand right after a savepoint, to the attempt, with an empty outbox. If
    /// other attempts share it, what this one has written cannot be taken back alone.
    pub(crate) fn fill(mut self, unit: U, is_shared: bool, outbox: Outbox) {
        self.loan.lent_at.get_or_init(Instant::now);
        if let Some(place) = self.place.as_deref_mut() {
            *place = Place::Open {
                unit,
                is_shared,
                writes: Writes::None,
                outbox,
            };
        }
    }
}

pub(super) enum Place<U> {
    Vacant,
    Open {
        unit: U,
        is_shared: bool,
        writes: Writes,
        outbox: Outbox,
    },
}

/// What the engine takes back after an attempt.
pub(crate) struct Taken<U> {
    pub(crate) unit: U,
    pub(crate) writes: Writes,
    /// What the last call has published.
    pub(crate) outbox: Outbox,
}

/// What the calls of this attempt have left in the transaction since its savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// No call was made.
    None,
    /// The last call of a handler succeeded.
    Handled,
    /// A service has kept writes of its own.
    Kept,
    /// The last call answered a failure.
    Failed,
    /// The last call was dropped: its query may still run at the server.
    Unfinished,
}

impl<U: Unit> Slot<U> {
    pub(super) fn vacant() -> Self {
        Self {
            place: Arc::new(Mutex::new(Place::Vacant)),
            loan: Arc::default(),
        }
    }

    /// The place for a unit that is to come: a call that asks for it before waits.
    pub(super) fn reserve(&self) -> Reservation<U> {
        Reservation {
            place: Arc::clone(&self.place).try_lock_owned().ok(),
            loan: Arc::clone(&self.loan),
        }
    }

    /// Waits until someone asks for the unit.
    pub(crate) async fn wanted(&self) {
        self.loan.wanted.notified().await;
    }

    /// Waits this long, and as long after the unit has come: a call's time is not used up while the
    /// database opens it.
    pub(crate) async fn has_been_lent_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
        if let Some(lent_at) = self.loan.lent_at.get() {
            tokio::time::sleep_until(*lent_at + time).await;
        }
    }

    /// Takes the unit back for good: a clone of the delivery that was kept finds no transaction.
    ///
    /// A layer that runs its inner service in a task of its own may still hold the transaction;
    /// after `patience` the unit is lost. It closes its connection when that task lets go.
    pub(crate) async fn empty(&self, patience: Duration) -> Result<Taken<U>, UnitLost> {
        let place = tokio::time::timeout(patience, self.place.lock()).await;
        let Ok(mut place) = place else {
            self.loan.over.store(true, Ordering::Release);
            return Err(UnitLost::still_in_use());
        };
        let place = std::mem::replace(&mut *place, Place::Vacant);
        match place {
            Place::Open {
                unit,
                writes,
                outbox,
                ..
            } => Ok(Taken {
                unit,
                writes,
                outbox,
            }),
            Place::Vacant => Err(UnitLost::still_in_use()),
        }
    }
}

/// Takes back what a call has left since the savepoint. One that is cut is repeated by the next.
///
/// Others' writes would go with it where the savepoint is shared: then the engine takes all of it back,
/// and runs the attempt again with a savepoint of its own.
pub(super) async fn roll_back<U: Unit>(
    unit: &mut U,
    is_shared: bool,
    writes: &mut Writes,
) -> Result<(), Failure> {
    if is_shared {
        return Err(Failure::dead_letter(
            "the event runs again with a savepoint of its own",
        ));
    }
    let interrupt = *writes == Writes::Unfinished;
    *writes = Writes::Unfinished;
    unit.rollback(interrupt).await.map_err(Failure::retry)
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::{
        envelope::{Envelope, Metadata, Payload},
        error::BoxError,
        inbox::{Inbox as _, SqliteInbox},
    };

    const TIME: Duration = Duration::from_secs(30);

    /// How long a deadline of `TIME` lasts for a call whose unit comes so long after its first
    /// poll. It is not polled again before that: its task opens the unit.
    async fn deadline(lent_after: Option<Duration>) -> Result<Duration, BoxError> {
        let unit = SqliteInbox::in_memory().await?.begin().await?;
        let slot = Slot::vacant();
        let reservation = slot.reserve();
        tokio::time::pause();
        let began = Instant::now();

        let mut over = pin!(slot.has_been_lent_for(TIME));
        assert!(futures_util::poll!(over.as_mut()).is_pending());
        if let Some(lent_after) = lent_after {
            tokio::time::advance(lent_after).await;
            let event = Envelope::from_parts(Metadata::of("1"), Payload::empty());
            reservation.fill(unit, false, Outbox::caused_by(event));
        }
        over.await;

        Ok(began.elapsed())
    }

    /// Whether these are the same to the millisecond, to which timers are rounded up.
    fn is_about(time: Duration, expected: Duration) -> bool {
        (expected..=expected + Duration::from_millis(1)).contains(&time)
    }

    #[tokio::test]
    async fn a_deadline_counts_from_the_lending_that_comes_after_it_would_be_over() {
        let lasted = deadline(Some(TIME * 2)).await.unwrap();

        assert!(is_about(lasted, TIME * 3), "{lasted:?}");
    }

    #[tokio::test]
    async fn a_deadline_counts_from_the_lending_that_comes_before_it_would_be_over() {
        let lasted = deadline(Some(TIME / 3)).await.unwrap();

        assert!(is_about(lasted, TIME / 3 + TIME), "{lasted:?}");
    }

    #[tokio::test]
    async fn a_deadline_of_what_is_never_lent_counts_from_the_calls_begin() {
        let lasted = deadline(None).await.unwrap();

        assert!(is_about(lasted, TIME), "{lasted:?}");
    }
}
