//! A view of a running relay.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    report::{Counters, RelayReport},
    vitals::Vitals,
};

/// How a relay was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayHealth {
    /// Where the relay is between its start and its end.
    pub phase: RelayPhase,
    /// Whether the broker takes all events, from what was last sent to it. While some of them wait
    /// because it does not, this is `false`.
    pub broker_reachable: bool,
    /// Whether the outbox's database answers, from what was last asked of it.
    pub database_reachable: bool,
    /// How long ago the broker last took an event.
    pub last_published: Option<Duration>,
    /// For how long the oldest event had been due that was last seen and is to be published; zero if
    /// there was none.
    ///
    /// Of a relay that stands by, it is what it last knew. The table itself is counted by
    /// [`OutboxTable::counts`](crate::outbox::OutboxTable::counts).
    pub lag: Duration,
}

impl RelayHealth {
    /// Whether the relay does its work, or will by itself. If not, only a restart helps.
    ///
    /// A server that does not answer is no reason to restart: it is waited for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase != RelayPhase::Stopped
    }

    /// Whether events are being published, or would be if another relay died.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, RelayPhase::StandingBy | RelayPhase::Publishing)
            && self.broker_reachable
            && self.database_reachable
    }
}

/// Where a relay is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayPhase {
    /// Not started yet, or waiting for the database before it begins.
    Starting,
    /// Another relay publishes.
    StandingBy,
    /// Publishes what is due.
    Publishing,
    /// Has ended.
    Stopped,
}

/// A view of a [`Relay`](super::Relay) that outlives [`run_until`](super::Relay::run_until), which
/// consumes it; made by [`Relay::handle`](super::Relay::handle).
///
/// A clone is cheap. A handle keeps nothing running and no connection open.
#[derive(Clone)]
pub struct RelayHandle {
    pub(super) counters: Arc<Counters>,
    pub(super) vitals: Arc<Vitals>,
}

impl RelayHandle {
    /// How the relay is at this moment. Asks no server: it knows what the relay has seen.
    pub fn health(&self) -> RelayHealth {
        self.vitals.health()
    }

    /// What the relay has counted so far.
    pub fn report(&self) -> RelayReport {
        self.counters.report()
    }
}

impl fmt::Debug for RelayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayHandle")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
