//! Deletes rows that are done with when their time is over, in batches, by the relay that publishes.

use std::time::Duration;

use super::{Engine, lease::Held};
use crate::{
    error::{Error, chain},
    fail_point::{self, Point},
    outbox::OutboxTable,
};

const BATCH: u32 = 1_000;
const INTERVAL: Duration = Duration::from_mins(1);

/// Deletes for ever.
pub(super) async fn purge<T: OutboxTable, K>(engine: &Engine<T, K>, held: &Held) {
    let retention = engine.settings.retention;
    loop {
        let purging = async {
            let purged = engine.outbox.purge(&held.term, retention, BATCH).await?;
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
                engine.counters.table_failures.one();
                let error = chain(&error);
                tracing::warn!(error, "published events could not be deleted");
                INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}
