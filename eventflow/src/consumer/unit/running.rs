//! Runs rows in units: together, and those of a lost unit alone.

use std::{collections::VecDeque, mem, pin::pin, time::Duration};

use super::{UNIT_TIME, UnitOfWork};
use crate::{
    consumer::{engine::Engine, queue::Queue},
    inbox::{Inbox, Row},
    router::Route,
};

/// How often the same event runs again for a conflict or an outage before it is handed back.
const RERUNS: u32 = 5;

/// Runs rows whose handlers take the transaction. Those that have not begun when a unit's time is over go
/// back to the `queue`, if they came from one: another worker may have nothing to do.
pub(in crate::consumer) async fn run_in_units<Src, I>(
    engine: &Engine<Src, I>,
    rows: Vec<Row>,
    queue: Option<&Queue>,
) where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut work = UnitOfWork::new(engine, is_replay_safe(engine, &rows));
    let mut rows = VecDeque::from(rows);
    let mut is_over = pin!(tokio::time::sleep(UNIT_TIME));
    while let Some(row) = rows.pop_front() {
        let mut running = pin!(work.run(row));
        if let Some(queue) = queue.filter(|_| !rows.is_empty()) {
            tokio::select! {
                biased;
                () = running.as_mut() => continue,
                () = is_over.as_mut() => {
                    engine.held.put_back(&rows);
                    queue.put_back(mem::take(&mut rows));
                }
            }
        }
        running.await;
    }
    run_again(engine, work.finish().await).await;
}

/// Whether units of these rows may run without a savepoint for each: their handlers say so, and
/// failures are rare.
pub(in crate::consumer) fn is_replay_safe<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    rows: &[Row],
) -> bool {
    let routes = engine.dispatcher.routes();
    let is_replay_safe = |row: &Row| match routes.route(&row.envelope.metadata().event_type) {
        Route::Handler(route) => route.replay_safe,
        Route::Ignored | Route::Unknown => false,
    };
    // Without the guard, writes after an unseen end of the transaction would be stored one by one.
    rows.len() > 1
        && rows.iter().all(is_replay_safe)
        && engine.inbox.guards_units()
        && engine.optimism.holds()
}

/// Runs the rows of lost units that are still this process's, one at a time.
pub(in crate::consumer) async fn run_again<Src, I>(engine: &Engine<Src, I>, again: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if !again.is_empty() {
        for row in engine.still_held(again).await {
            run_alone(engine, row).await;
        }
    }
}

/// Runs one row in a unit of its own: a loss is its own doing, a conflict, or an outage.
async fn run_alone<Src, I>(engine: &Engine<Src, I>, row: Row)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut row = row;
    for run in 0..RERUNS {
        if run > 0 {
            let pause = Duration::from_millis(fastrand::u64(5..50));
            engine.pause(pause).await;
            let Some(held) = engine.still_held(vec![row]).await.pop() else {
                return;
            };
            row = held;
        }
        let mut work = UnitOfWork::new(engine, false);
        work.run(row).await;
        let Some(lost) = work.finish().await.pop() else {
            return;
        };
        row = lost;
    }
    engine.hand_back(&[row]).await;
}
