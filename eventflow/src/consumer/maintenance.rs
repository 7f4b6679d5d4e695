//! Maintains the stream now and then, on every node: what one has done, the others find done.

use std::{sync::Arc, time::Duration};

use super::engine::Engine;
use crate::{error::chain, inbox::Inbox, stream::Source};

const INTERVAL: Duration = Duration::from_mins(1);

/// Maintains the stream until the consumer stops. A failure is told once, until it works again.
pub(super) async fn maintain<Src: Source, I: Inbox>(engine: Arc<Engine<Src, I>>) {
    let mut fails = false;
    while !engine.stopping.is_cancelled() {
        let maintained = tokio::select! {
            () = engine.stopping.cancelled() => return,
            maintained = engine.source.maintain() => maintained,
        };
        match &maintained {
            Ok(()) if fails => tracing::info!("the stream can be maintained again"),
            Ok(()) => {}
            Err(error) if fails => {
                tracing::debug!(error = chain(error), "the stream could not be maintained");
            }
            Err(error) => {
                tracing::warn!(error = chain(error), "the stream could not be maintained");
            }
        }
        fails = maintained.is_err();
        engine.pause(INTERVAL.mul_f64(0.5 + fastrand::f64())).await;
    }
}
