//! The table's lease: takes it, keeps it, and ends it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Engine, RelayPhase};
use crate::{
    consumer::Outage,
    error::{Error, ErrorKind, Result, chain},
    outbox::{OutboxTable, Term},
};

/// The lease while it is this relay's, as far as it knows.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) term: Term,
    /// Until when nobody else can have taken it: counted from before the database was asked.
    until: Mutex<Instant>,
    /// Another relay has taken it.
    pub(super) lost: CancellationToken,
}

impl Held {
    fn new(term: Term, until: Instant) -> Self {
        Self {
            term,
            until: Mutex::new(until),
            lost: CancellationToken::new(),
        }
    }

    /// Whether nobody else can have taken the lease by now. If not, this relay was not able to extend it,
    /// or stood still.
    pub(super) fn is_certain(&self) -> bool {
        Instant::now() < *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lasts_until(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Takes the lease as soon as nobody holds it; nothing once the relay stops.
pub(super) async fn acquire<T: OutboxTable, K>(engine: &Engine<T, K>) -> Option<Held> {
    let mut outage = Outage::new("asking for the relay's lease", &engine.vitals.database);
    while !engine.stopping.is_cancelled() {
        match try_acquire(engine).await {
            Ok(Some(held)) => {
                outage.over();
                return Some(held);
            }
            Ok(None) => {
                outage.over();
                engine.vitals.enter(RelayPhase::StandingBy);
                let pause = pause(engine);
                let _: Option<()> = engine
                    .stopping
                    .run_until_cancelled(tokio::time::sleep(pause))
                    .await;
            }
            Err(error) => {
                outage.wait_unless(&engine.stopping, &error).await;
            }
        }
    }
    None
}

/// Takes the lease, waiting for as long as that of a relay that has died may last.
pub(super) async fn acquire_soon<T: OutboxTable, K>(engine: &Engine<T, K>) -> Result<Held> {
    let deadline = Instant::now() + engine.settings.lease;
    loop {
        // Asked once more after the deadline: the lease may have lapsed at it.
        let is_last = Instant::now() >= deadline;
        match try_acquire(engine).await? {
            Some(held) => return Ok(held),
            None if is_last => return Err(taken()),
            None => tokio::time::sleep(pause(engine)).await,
        }
    }
}

/// How long to wait before asking again: not so long that a lapsed lease lies idle.
fn pause<T, K>(engine: &Engine<T, K>) -> Duration {
    let third = engine.settings.lease / 3;
    let pause = engine.settings.poll_interval.min(third);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn try_acquire<T: OutboxTable, K>(engine: &Engine<T, K>) -> Result<Option<Held>> {
    let lease = engine.settings.lease;
    let until = Instant::now() + lease;
    let asked = engine.outbox.acquire(&engine.holder, lease);
    let term = engine.vitals.database.ask(asked).await;
    let term = term.inspect_err(|_| engine.counters.table_failures.one())?;
    Ok(term.map(|term| {
        engine.counters.terms.one();
        Held::new(term, until)
    }))
}

/// The error of a one-shot job that another relay is in the way of.
pub(super) fn taken() -> Error {
    let message =
        "another relay publishes this outbox's events; let it, or try again when it has stopped";
    Error::new(ErrorKind::Outbox, message).transient(true)
}

/// Extends the lease until `ended`, or until it is lost.
pub(super) async fn extend<T: OutboxTable, K>(
    engine: &Engine<T, K>,
    held: &Held,
    ended: &CancellationToken,
) {
    let mut outage = Outage::new("extending the relay's lease", &engine.vitals.database);
    let third = engine.settings.lease / 3;
    let mut pause = third;
    loop {
        let paused = ended.run_until_cancelled(tokio::time::sleep(pause));
        if paused.await.is_none() {
            return;
        }
        pause = third;
        match extend_once(engine, held).await {
            Ok(true) => outage.over(),
            Ok(false) => return,
            Err(error) => {
                if !outage.wait_unless(ended, &error).await {
                    return;
                }
                pause = Duration::ZERO;
            }
        }
    }
}

/// Extends the lease; answers whether it is still this relay's.
pub(super) async fn extend_once<T: OutboxTable, K>(
    engine: &Engine<T, K>,
    held: &Held,
) -> Result<bool> {
    let lease = engine.settings.lease;
    let until = Instant::now() + lease;
    let asked = engine.outbox.extend(&held.term, lease);
    let extended = engine.vitals.database.ask(asked).await;
    let extended = extended.inspect_err(|_| engine.counters.table_failures.one())?;
    if extended {
        held.lasts_until(until);
    } else {
        lose(engine, held);
    }
    Ok(extended)
}

/// Notes that another relay has the lease.
pub(super) fn lose<T, K>(engine: &Engine<T, K>, held: &Held) {
    if held.lost.is_cancelled() {
        return;
    }
    held.lost.cancel();
    engine.counters.leases_lost.one();
    tracing::warn!(
        holder = &*engine.holder,
        term = held.term.number,
        "another relay has taken over: this one did not extend its lease in time"
    );
}

/// Ends the lease, for another relay to take it at once.
pub(super) async fn release<T: OutboxTable, K>(engine: &Engine<T, K>, held: &Held) {
    if held.lost.is_cancelled() {
        return;
    }
    if let Err(error) = engine.outbox.release(&held.term).await {
        engine.counters.table_failures.one();
        let error = chain(&error);
        tracing::warn!(error, "the relay's lease could not be ended; it lapses");
    }
}
