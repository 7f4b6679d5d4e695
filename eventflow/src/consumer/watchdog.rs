//! Watches for calls that hold their threads, from a thread of its own: such calls may hold every
//! thread of the runtime.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use tokio::runtime::Handle;

use super::{calls::Stuck, engine::Engine};
use crate::{
    error::{Error, ErrorKind, Result},
    inbox::Inbox,
};

/// How often it looks, unless leases are too short for that.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for stuck calls until what it answers is dropped.
pub(super) fn watch<Src, I>(engine: &Arc<Engine<Src, I>>) -> Result<Sender<Infallible>>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let engine = Arc::clone(engine);
    let runtime = Handle::current();
    let (watched, ended) = mpsc::channel();
    thread::Builder::new()
        .name("eventflow-watchdog".to_owned())
        .spawn(move || {
            let interval = INTERVAL.min(engine.settings.lease / 3);
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(interval) {
                look(&engine, &runtime, interval);
            }
        })
        .map_err(|error| {
            Error::new(
                ErrorKind::Consumer,
                "the thread that watches for handlers that block could not be started",
            )
            .with_source(error)
        })?;
    Ok(watched)
}

fn look<Src, I>(engine: &Arc<Engine<Src, I>>, runtime: &Handle, interval: Duration)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if engine.vitals.calls.longest_hold() >= interval {
        // The held thread may be the one that waited for I/O and timers on behalf of all. A task
        // from outside wakes another, which then does.
        runtime.spawn(async {});
    }
    for Stuck { lease, task, call } in engine.vitals.calls.newly_stuck() {
        let mut waiting = task.map_or_else(Vec::new, |task| engine.held.of_task(task));
        let mut in_vain = engine.waiting_in_vain();
        in_vain.retain(|other| !waiting.contains(other));
        waiting.append(&mut in_vain);
        waiting.retain(|other| *other != lease);
        tracing::error!(
            event_id = call.event_id,
            event_type = call.event_type,
            held_for = ?call.held_for,
            in_service = call.in_service,
            waiting = waiting.len(),
            "a handler, or a layer around it, holds its thread and cannot be cut; another worker takes its event over when the lease has lapsed; move what blocks into `spawn_blocking`"
        );
        let engine = Arc::clone(engine);
        runtime.spawn(async move { engine.release(waiting, Duration::ZERO).await });
    }
}
