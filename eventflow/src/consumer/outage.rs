//! Waiting out a server that does not answer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::contact::Contact;
use crate::error::{Error, Result, chain};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A row of failures of one thing: waits longer each time, up to a second, and logs the first
/// failure and the recovery, not each try. Until it is over, the server counts as unreachable.
#[derive(Debug)]
pub(crate) struct Outage<'c> {
    doing: &'static str,
    contact: &'c Contact,
    wait: Duration,
    failures: u32,
}

impl<'c> Outage<'c> {
    pub(crate) const fn new(doing: &'static str, contact: &'c Contact) -> Self {
        Self {
            doing,
            contact,
            wait: FIRST_WAIT,
            failures: 0,
        }
    }

    /// Notes a failure and waits before the next try.
    pub(crate) async fn wait(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        tokio::time::sleep(self.next_wait(error)).await;
    }

    /// As [`wait`](Self::wait); `false` if it was stopped.
    pub(crate) async fn wait_unless(
        &mut self,
        stopped: &CancellationToken,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> bool {
        let waiting = tokio::time::sleep(self.next_wait(error));
        stopped.run_until_cancelled(waiting).await.is_some()
    }

    /// As [`wait`](Self::wait), if the error is one that passes; else gives it back.
    pub(crate) async fn wait_out(&mut self, error: Error) -> Result<()> {
        if !error.is_transient() {
            return Err(error);
        }
        self.wait(&error).await;
        Ok(())
    }

    /// Notes that it works again.
    pub(crate) fn over(&mut self) {
        if self.failures > 0 {
            tracing::info!(doing = self.doing, failures = self.failures, "works again");
            self.contact.outage_ends();
        }
        self.wait = FIRST_WAIT;
        self.failures = 0;
    }

    fn next_wait(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let error = chain(error);
        if self.failures == 1 {
            self.contact.outage_begins();
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

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        if self.failures > 0 {
            self.contact.outage_ends();
        }
    }
}
