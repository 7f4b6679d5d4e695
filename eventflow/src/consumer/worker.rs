//! Workers: take work from the queue and run it as its routes say.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    arrival::unknown_reason,
    concurrent::run_concurrently,
    engine::Engine,
    inline::run_inline,
    outcome,
    queue::{Queue, Work},
    settings::UnknownEvents,
    unit::run_in_units,
};
use crate::{
    inbox::{Inbox, Row, Settlement, Status},
    router::Route,
    stream::{Batch, Source},
};

/// Works off the queue until nobody feeds it.
pub(super) async fn work<Src, I>(engine: Arc<Engine<Src, I>>, queue: Arc<Queue>)
where
    Src: Source,
    I: Inbox,
{
    while let Some(work) = queue.take().await {
        match work {
            Work::Rows(rows) => {
                let (number, began) = (rows.len(), Instant::now());
                run_share(&engine, rows, Some(&queue)).await;
                queue.pace.note(number, began.elapsed());
            }
            Work::Fresh(batch) => drop(run_fresh(&engine, batch).await),
        }
    }
}

/// Runs rows as a worker does.
pub(super) async fn run<Src, I>(engine: &Arc<Engine<Src, I>>, rows: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    run_share(engine, rows, None).await;
}

/// Runs rows in a task of its own, which nobody aborts: a transaction is never cut from outside,
/// and a panic in a destructor of a handler's future does not end the worker.
async fn run_share<Src, I>(engine: &Arc<Engine<Src, I>>, rows: Vec<Row>, queue: Option<&Arc<Queue>>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let number = rows.len();
    // Boxed: what is large is moved several times on its way into a task.
    let task = tokio::spawn(Box::pin({
        let (engine, queue) = (Arc::clone(engine), queue.cloned());
        async move {
            engine.held.take_on(&rows);
            run_by_route(&engine, rows, queue.as_deref()).await;
        }
    }));
    let id = task.id();
    if let Err(error) = task.await {
        engine.held.remove_of_task(id);
        tracing::error!(
            %error,
            rows = number,
            "a worker's task ended early; its rows run again when their leases have lapsed"
        );
    }
}

/// As [`run`], for a batch that no row exists of yet; answers the rows that were run.
pub(super) async fn run_fresh<Src, I>(engine: &Arc<Engine<Src, I>>, batch: Batch) -> Vec<Uuid>
where
    Src: Source,
    I: Inbox,
{
    let task = tokio::spawn(Box::pin({
        let engine = Arc::clone(engine);
        async move { run_inline(&engine, batch).await }
    }));
    let id = task.id();
    task.await.unwrap_or_else(|error| {
        engine.held.remove_of_task(id);
        tracing::error!(
            %error,
            "a worker's task ended early; its events come again from the stream, or run when their leases have lapsed"
        );
        Vec::new()
    })
}

/// Runs rows as their routes say; those that came from a `queue` may go back to it.
pub(super) async fn run_by_route<Src, I>(
    engine: &Engine<Src, I>,
    rows: Vec<Row>,
    queue: Option<&Queue>,
) where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut transactional = Vec::with_capacity(rows.len());
    let mut concurrent = Vec::new();
    let mut settled = Vec::new();
    for row in rows {
        match engine
            .dispatcher
            .routes()
            .route(&row.envelope.metadata().event_type)
        {
            Route::Handler(route) if route.transactional => transactional.push(row),
            Route::Handler(_) => concurrent.push(row),
            Route::Ignored => settled.push(outcome::processed(&row)),
            Route::Unknown => settled.push(unknown(&row, engine.settings.unknown_events)),
        }
    }
    engine.settle_apart(settled).await;
    tokio::join!(
        run_concurrently(engine, concurrent),
        run_in_units(engine, transactional, queue),
    );
}

/// The next state of a row that an earlier version of the service has stored.
fn unknown(row: &Row, policy: UnknownEvents) -> Settlement {
    let metadata = row.envelope.metadata();
    let event_type = &metadata.event_type;
    tracing::warn!(
        event_id = metadata.event_id,
        event_type,
        ?policy,
        "no handler for events of this type"
    );
    match policy {
        UnknownEvents::DeadLetter => {
            outcome::without_run(row, Status::DeadLetter, &unknown_reason(event_type))
        }
        UnknownEvents::Ignore => outcome::processed(row),
        UnknownEvents::Leave => outcome::without_run(row, Status::Pending, ""),
    }
}
