//! The recovery lane: runs rows whose worker has lapsed, alone and one at a time.
//!
//! A row that ended its process takes no neighbour with it here, and only a lapse here counts as a
//! failed run.

use std::{sync::Arc, time::Duration};

use super::{engine::Engine, outage::Outage, worker::run};
use crate::inbox::{Inbox, Recovery};

/// The shortest wait for a lease to lapse: a lapsed row that someone else has locked is not
/// recovered.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Recovers rows until the consumer stops. Sleeps until the next lease lapses, or the poll interval
/// is over: other processes take leases as well.
pub(super) async fn recover<Src, I>(engine: Arc<Engine<Src, I>>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut outage = Outage::new("recovering rows", &engine.vitals.database);
    while !engine.stopping.is_cancelled() {
        match recover_one(&engine).await {
            Ok(true) => outage.over(),
            Ok(false) => {
                outage.over();
                let pause = until_next_lapse(&engine).await;
                engine.pause(pause).await;
            }
            Err(error) => {
                outage.wait_unless(&engine.stopping, &error).await;
            }
        }
    }
}

async fn until_next_lapse<Src, I: Inbox>(engine: &Engine<Src, I>) -> Duration {
    let poll = engine.settings.poll_interval;
    let asking = engine.inbox.next_lapse(&engine.holder.consumer);
    match engine.vitals.database.ask(asking).await {
        Ok(Some(lapse)) => lapse.max(SHORTEST_PAUSE).min(poll),
        Ok(None) | Err(_) => poll,
    }
}

/// Recovers one row, if one has lapsed.
pub(super) async fn recover_one<Src, I>(engine: &Arc<Engine<Src, I>>) -> crate::Result<bool>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let recovering = engine.inbox.recover(&engine.holder);
    match engine.vitals.database.ask(recovering).await? {
        Recovery::None => return Ok(false),
        Recovery::Run(row) => {
            let metadata = row.envelope.metadata();
            tracing::warn!(
                event_id = metadata.event_id,
                event_type = metadata.event_type,
                attempt = metadata.attempt,
                "the row's lease has lapsed; running it alone"
            );
            engine.counters.recovered.one();
            engine.held.add(std::slice::from_ref(&row));
            engine.vitals.calls.recover(Some(row.lease));
            run(engine, vec![*row]).await;
            engine.vitals.calls.recover(None);
        }
        Recovery::DeadLetter(metadata) => {
            tracing::error!(
                event_id = metadata.event_id,
                event_type = metadata.event_type,
                "the event ended its process too often; kept as a dead letter"
            );
            engine.note_held_up(&metadata);
            engine.counters.crash_looped.one();
        }
    }
    Ok(true)
}
