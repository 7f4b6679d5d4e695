//! Extends the leases of rows that wait or run in this process.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{calls::Stuck, engine::Engine};
use crate::{error::chain, inbox::Inbox};

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
        for stuck in engine.vitals.calls.newly_stuck() {
            give_up(&engine, stuck).await;
        }
        let mut leases = engine.held.all();
        leases.retain(|lease| !engine.vitals.calls.is_stuck(*lease));
        if leases.is_empty() {
            continue;
        }
        match engine.inbox.extend(&engine.holder, leases.clone()).await {
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

/// Leaves a stuck call's row to lapse, and hands back the rows that its task would run next.
async fn give_up<Src, I>(engine: &Engine<Src, I>, stuck: Stuck)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let Stuck { lease, task, call } = stuck;
    let mut waiting = task.map_or_else(Vec::new, |task| engine.held.of_task(task));
    waiting.retain(|other| *other != lease);
    tracing::error!(
        event_id = call.event_id,
        event_type = call.event_type,
        held_for = ?call.held_for,
        waiting = waiting.len(),
        "a handler holds its thread and cannot be cut; another worker takes its event over when the lease has lapsed; move blocking work to `spawn_blocking`"
    );
    engine.release(waiting, Duration::ZERO).await;
}
