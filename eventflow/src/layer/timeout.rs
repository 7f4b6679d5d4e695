//! A call that takes too long is cut, with an error that says so.
//!
//! The router cuts its handlers by itself; for a service of one's own take [`tower::timeout`],
//! which the consumer understands as well.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{task::coop::unconstrained, time::sleep};

use crate::handler::Failure;

/// A call was cut: it took longer than its timeout.
///
/// A call that never yields cannot be cut: only what awaits can. Its time begins when it first does.
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

/// Waits for a call for so long.
///
/// The time begins when the call first waits: one that never does could not be cut, and needs no
/// timer.
pub(crate) async fn within<F: Future>(
    after: Duration,
    mut call: Pin<&mut F>,
) -> Result<F::Output, TimedOut> {
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        if timer.is_none() {
            // It goes off also when the call has used up what a task may do before it yields.
            timer.set(Some(unconstrained(sleep(after))));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| Err(TimedOut::new(after))),
            None => Poll::Pending,
        }
    })
    .await
}
