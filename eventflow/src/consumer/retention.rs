//! Deletes finished rows when their time is over, in batches, on every node: rows that one node is
//! deleting are skipped by the others.

use std::{sync::Arc, time::Duration};

use super::engine::Engine;
use crate::{
    error::{Error, chain},
    fail_point::{self, Point},
    inbox::Inbox,
};

const BATCH: u32 = 1_000;
const INTERVAL: Duration = Duration::from_mins(1);

/// Deletes until the consumer stops.
pub(super) async fn purge<Src, I>(engine: Arc<Engine<Src, I>>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let retention = engine.settings.retention;
    let consumer = &engine.holder.consumer;
    while !engine.stopping.is_cancelled() {
        let purging = async {
            let purged = engine.inbox.purge(consumer, retention, BATCH).await?;
            if purged > 0 {
                fail_point::reach(Point::InRetention).await?;
            }
            Ok::<_, Error>(purged)
        };
        let pause = match purging.await {
            Ok(purged) => {
                engine.counters.purged.add(purged);
                // A full batch may have more behind it.
                if purged == u64::from(BATCH) {
                    Duration::ZERO
                } else {
                    INTERVAL.mul_f64(0.5 + fastrand::f64())
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "finished rows could not be deleted");
                INTERVAL
            }
        };
        engine.pause(pause).await;
    }
}
