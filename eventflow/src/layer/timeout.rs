//! A call that takes too long is cut, with an error that says so.
//!
//! The router cuts its handlers by itself; for a service of one's own take [`tower::timeout`],
//! which the consumer understands as well.

use std::{fmt, time::Duration};

use crate::handler::Failure;

/// A call was cut: it took longer than its timeout.
///
/// A call that never yields cannot be cut: only what awaits can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    after: Duration,
}

impl TimedOut {
    pub(crate) const fn new(after: Duration) -> Self {
        Self { after }
    }

    /// The timeout.
    pub fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out after {:?}", self.after)
    }
}

impl std::error::Error for TimedOut {}

/// Whether a failure is a call that was cut for time.
pub(crate) fn is_timeout(failure: &Failure) -> bool {
    failure.error().is::<TimedOut>() || failure.error().is::<tower::timeout::error::Elapsed>()
}
