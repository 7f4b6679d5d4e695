//! Hears of commits in other processes. What is not heard of is found by polling.

use std::time::Duration;

use tokio::time::Instant;

use crate::{error::chain, outbox::OutboxTable};

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(2);

/// A failure so long after the last one is news.
const NEWS: Duration = Duration::from_mins(1);

/// Listens, and connects again when the connection fails, for ever.
pub(super) async fn listen(outbox: &impl OutboxTable) {
    let mut last_failed: Option<Instant> = None;
    loop {
        let error = outbox.listen().await;
        let error = chain(&error);
        if last_failed.is_some_and(|at| at.elapsed() < NEWS) {
            tracing::debug!(error, "listening for commits failed again");
        } else {
            tracing::warn!(
                error,
                "listening for commits failed; events are found by polling until it works"
            );
        }
        last_failed = Some(Instant::now());
        tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
    }
}
