//! The recovery lane: runs rows whose worker has lapsed, alone and one at a time.
//!
//! A row that ended its process takes no neighbour with it here, and only a lapse here counts as a
//! failed run.

use std::sync::Arc;

use super::{engine::Engine, outage::Outage, worker::run};
use crate::inbox::{Inbox, Recovery};

/// Recovers rows until the consumer stops.
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
                tokio::select! {
                    () = engine.stopping.cancelled() => return,
                    () = tokio::time::sleep(engine.settings.poll_interval) => {}
                }
            }
            Err(error) => {
                outage.wait_unless(&engine.stopping, &error).await;
            }
        }
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
            engine.counters.crash_looped.one();
        }
    }
    Ok(true)
}
