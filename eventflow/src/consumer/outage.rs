//! Waiting out a server that does not answer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::chain;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A row of failures of one thing: waits longer each time, up to a second, and logs the first
/// failure and the recovery, not each try.
#[derive(Debug)]
pub(super) struct Outage {
    doing: &'static str,
    wait: Duration,
    failures: u32,
}

impl Outage {
    pub(super) const fn new(doing: &'static str) -> Self {
        Self {
            doing,
            wait: FIRST_WAIT,
            failures: 0,
        }
    }

    /// Notes a failure and waits before the next try.
    pub(super) async fn wait(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        tokio::time::sleep(self.next_wait(error)).await;
    }

    /// As [`wait`](Self::wait); `false` if it was stopped.
    pub(super) async fn wait_unless(
        &mut self,
        stopped: &CancellationToken,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> bool {
        let wait = self.next_wait(error);
        tokio::select! {
            () = stopped.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Notes that it works again.
    pub(super) fn over(&mut self) {
        if self.failures > 0 {
            tracing::info!(doing = self.doing, failures = self.failures, "works again");
        }
        *self = Self::new(self.doing);
    }

    fn next_wait(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let error = chain(error);
        if self.failures == 1 {
            tracing::warn!(
                doing = self.doing,
                error,
                "failed; trying again until it works"
            );
        } else {
            tracing::debug!(
                doing = self.doing,
                error,
                failures = self.failures,
                "failed again"
            );
        }
        let wait = self.wait.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
        wait
    }
}
