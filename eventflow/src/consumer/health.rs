//! How a consumer was at one moment: for probes, dashboards and tests.

use std::time::Duration;

/// How a consumer was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Where the consumer is between its start and its end.
    pub phase: Phase,
    /// The consumer's loops, and how many of each are alive.
    pub loops: Vec<LoopHealth>,
    /// How many workers the consumer was built with.
    pub workers: usize,
    /// Calls that hold their thread for longer than they may take. Each keeps a worker, or the
    /// recovery lane.
    pub stuck: Vec<StuckCall>,
    /// Whether the stream's server answers, from what was last asked of it.
    pub broker_reachable: bool,
    /// Whether the inbox's database answers, from what was last asked of it. A full disk or too
    /// many connections count as no answer: nothing can be stored.
    pub database_reachable: bool,
    /// How long ago the stream last answered a read, also with nothing. It is not read while as many
    /// events wait for workers as may.
    pub last_read: Option<Duration>,
    /// How long ago rows were last committed: new ones, or next states.
    pub last_commit: Option<Duration>,
}

impl Health {
    /// Whether the process does its work, or will by itself: all loops run, and not every worker
    /// is stuck. If not, only a restart helps.
    ///
    /// A server that does not answer is no reason to restart: it is waited for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let complete = self.loops.iter().all(|each| each.alive == each.started);
        !self.all_workers_are_stuck()
            && match self.phase {
                Phase::Starting | Phase::Draining => true,
                Phase::Running => complete,
                Phase::Stopped => false,
            }
    }

    pub(super) fn all_workers_are_stuck(&self) -> bool {
        let workers = self.stuck.iter().filter(|call| !call.recovering);
        self.service_is_stuck() || workers.count() >= self.workers
    }

    pub(super) fn service_is_stuck(&self) -> bool {
        self.stuck.iter().any(|call| call.in_service)
    }

    /// Whether events are being handled: [live](Self::is_live), running, and both servers answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
            && self.is_live()
            && self.broker_reachable
            && self.database_reachable
    }
}

/// Where a consumer is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Not started yet, or waiting for a server before it begins.
    Starting,
    /// Takes events and runs them.
    Running,
    /// Takes no more; handlers that run have the grace period.
    Draining,
    /// Has ended.
    Stopped,
}

/// The loops of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopHealth {
    /// What the loop does: `read`, `take over` unless the consumer is ordered, `acknowledge`, `due`,
    /// `worker`, `recovery`, `lease`, `retention`, `maintenance` or `parked`.
    pub name: &'static str,
    /// How many were started.
    pub started: usize,
    /// How many have not ended. One that ends before the consumer stops has panicked, which stops
    /// the consumer.
    pub alive: usize,
}

/// A call that holds its thread: it blocks, or computes, where it should wait.
///
/// No timeout can cut it. Its lease is not extended any more, so that another worker takes the event
/// over when it has lapsed; what waits behind it is handed back. While all workers are stuck, nothing
/// more is taken on. If the call ends after that, its commit is refused. A fresh event of an inline
/// batch has no lease yet: its entry is taken over after `claim_idle`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckCall {
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// For how long it has held its thread without yielding.
    pub held_for: Duration,
    /// Whether it keeps the recovery lane instead of a worker.
    pub recovering: bool,
    /// Whether it blocks in the service's own `call` or `poll_ready`, which all workers wait for.
    pub in_service: bool,
}
