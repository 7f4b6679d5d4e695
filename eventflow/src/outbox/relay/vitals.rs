//! What is known of a relay while it runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::handle::{RelayHealth, RelayPhase};
use crate::consumer::Contact;

/// How long an answer may take before its server counts as away.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is known of a relay.
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) broker: Contact,
    pub(super) database: Contact,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: RelayPhase,
    last_published: Option<Instant>,
    lag: Duration,
}

impl Vitals {
    pub(super) fn new() -> Self {
        Self {
            broker: Contact::new(PATIENCE),
            database: Contact::new(PATIENCE),
            state: Mutex::new(State {
                phase: RelayPhase::Starting,
                last_published: None,
                lag: Duration::ZERO,
            }),
        }
    }

    pub(super) fn enter(&self, phase: RelayPhase) {
        self.lock().phase = phase;
    }

    /// Notes for how long the oldest event has been due.
    pub(super) fn note_lag(&self, lag: Duration) {
        self.lock().lag = lag;
    }

    /// Notes that the broker has taken events.
    pub(super) fn note_published(&self) {
        self.lock().last_published = Some(Instant::now());
    }

    pub(super) fn health(&self) -> RelayHealth {
        let state = self.lock();
        RelayHealth {
            phase: state.phase,
            broker_reachable: self.broker.is_reachable(),
            database_reachable: self.database.is_reachable(),
            last_published: state.last_published.map(|at| at.elapsed()),
            lag: state.lag,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay that has been started; it has stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Started(pub(super) Arc<Vitals>);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.enter(RelayPhase::Stopped);
    }
}
