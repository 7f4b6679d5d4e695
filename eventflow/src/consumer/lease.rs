//! Extends the leases of rows that wait or run in this process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{conflict::despite_conflicts, engine::Engine};
use crate::{
    error::chain,
    fail_point::{self, Point},
    inbox::Inbox,
};

/// Extends all leases each third of their length, until `done`: also while the consumer stops, as
/// long as handlers run. Those of calls that never yield are left to lapse.
pub(super) async fn extend<Src, I>(engine: Arc<Engine<Src, I>>, done: CancellationToken)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut ticks = tokio::time::interval(engine.settings.lease / 3);
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let mut leases = engine.held.all();
        leases.retain(|lease| !engine.vitals.calls.is_stuck(*lease));
        // Rows that arrived since the watchdog has handed back those that waited.
        let waiting = engine.waiting_in_vain();
        leases.retain(|lease| !waiting.contains(lease));
        if leases.is_empty() {
            continue;
        }
        let extending = async {
            fail_point::reach(Point::BeforeExtend).await?;
            let extend = || engine.inbox.extend(&engine.holder, leases.clone());
            despite_conflicts(extend).await
        };
        match extending.await {
            Ok(held) => {
                let lost = leases.into_iter().filter(|lease| !held.contains(lease));
                engine.held.remove(lost);
            }
            Err(error) => tracing::warn!(
                error = chain(&error),
                "leases could not be extended; other workers take the rows over when they lapse"
            ),
        }
    }
}
