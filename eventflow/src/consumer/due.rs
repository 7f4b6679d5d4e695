//! Claims rows whose time has come: retries, delayed events, rows that were handed back.

use std::{sync::Arc, time::Duration};

use super::{
    engine::Engine,
    outage::Outage,
    queue::{Feeder, Room},
};
use crate::{
    error::Result,
    fail_point::{self, Point},
    inbox::{Due, Inbox, Row},
};

/// The first wait after a claim that found nothing though something is due. It doubles with each
/// such claim, since a row that someone else has locked is due all the time and cannot be claimed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Claims due rows until the consumer stops. Sleeps until the next one is due, a row is scheduled
/// in this process, or the poll interval is over: other processes schedule rows as well.
pub(super) async fn claim<Src, I>(engine: Arc<Engine<Src, I>>, feeder: Feeder)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut outage = Outage::new("claiming due rows", &engine.vitals.database);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let Some(room) = room(&engine, &feeder).await else {
            return;
        };
        match claim_batch(&engine, Due::Now).await {
            Ok(rows) if rows.is_empty() => {
                drop(room);
                outage.over();
                if !wait(&engine, &mut pause).await {
                    return;
                }
            }
            // Claimed while the consumer stopped, maybe what it has just handed back.
            Ok(rows) if engine.stopping.is_cancelled() => {
                let leases = rows.iter().map(|row| row.lease).collect();
                engine.put_back(leases, Duration::ZERO).await;
                return;
            }
            Ok(rows) => {
                outage.over();
                pause = SHORTEST_PAUSE;
                engine.held.add(&rows);
                feeder.rows(room, rows).await;
            }
            Err(error) => {
                drop(room);
                if !outage.wait_unless(&engine.stopping, &error).await {
                    return;
                }
            }
        }
    }
}

/// Waits for room for a whole batch; `None` if the consumer stops.
async fn room<Src, I>(engine: &Engine<Src, I>, feeder: &Feeder) -> Option<Room>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let room = async {
        engine.able_worker().await;
        feeder.room(engine.settings.batch_size).await
    };
    tokio::select! {
        biased;
        () = engine.stopping.cancelled() => None,
        room = room => Some(room),
    }
}

/// Claims one batch of waiting rows.
pub(super) async fn claim_batch<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    due: Due,
) -> Result<Vec<Row>> {
    let limit = u32::try_from(engine.settings.batch_size).unwrap_or(u32::MAX);
    let claiming = engine.inbox.claim(&engine.holder, due, limit);
    let rows = engine.vitals.database.ask(claiming).await?;
    if !rows.is_empty() {
        fail_point::reach(Point::AfterClaim).await?;
    }
    Ok(rows)
}

async fn wait<Src, I>(engine: &Engine<Src, I>, pause: &mut Duration) -> bool
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let poll = engine.settings.poll_interval;
    let asking = engine.inbox.next_due(&engine.holder.consumer);
    let due = match engine.vitals.database.ask(asking).await {
        Ok(Some(due)) if due < *pause => {
            let due = (*pause).min(poll);
            *pause = pause.saturating_mul(2).min(poll);
            due
        }
        Ok(Some(due)) => {
            *pause = SHORTEST_PAUSE;
            due.min(poll)
        }
        Ok(None) | Err(_) => poll,
    };
    tokio::select! {
        // First: rows that a stop hands back are for other processes.
        biased;
        () = engine.stopping.cancelled() => false,
        () = engine.due_changed.notified() => true,
        () = tokio::time::sleep(due) => true,
    }
}
