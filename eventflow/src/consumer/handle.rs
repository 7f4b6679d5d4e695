//! A view of a running consumer.

use std::{fmt, sync::Arc};

use super::{
    health::Health,
    report::{Counters, Report},
    vitals::Vitals,
};

/// A view of a [`Consumer`](super::Consumer) that outlives [`run_until`](super::Consumer::run_until),
/// which consumes it; made by [`Consumer::handle`](super::Consumer::handle).
///
/// A clone is cheap. A handle keeps nothing running and no connection open.
///
/// # Examples
/// The two probes that an orchestrator asks for:
/// ```
/// use eventflow::consumer::ConsumerHandle;
///
/// fn liveness(consumer: &ConsumerHandle) -> u16 {
///     if consumer.health().is_live() { 200 } else { 503 }
/// }
///
/// fn readiness(consumer: &ConsumerHandle) -> u16 {
///     if consumer.health().is_ready() { 200 } else { 503 }
/// }
/// ```
#[derive(Clone)]
pub struct ConsumerHandle {
    pub(super) counters: Arc<Counters>,
    pub(super) vitals: Arc<Vitals>,
}

impl ConsumerHandle {
    /// How the consumer is at this moment. Asks no server: it knows what the loops have seen.
    pub fn health(&self) -> Health {
        self.vitals.health()
    }

    /// What the consumer has counted so far.
    pub fn report(&self) -> Report {
        self.counters.report()
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
