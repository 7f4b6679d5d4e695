//! Workers: take rows from the queue and run them as their routes say.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::{
    arrival::unknown_reason, concurrent::run_concurrently, engine::Engine, outcome,
    settings::UnknownEvents, unit::run_in_units,
};
use crate::{
    inbox::{Inbox, Row, Settlement, Status},
    router::Route,
};

/// The rows that wait in this process for a worker. All of them are leased.
pub(super) struct Queue {
    rows: Mutex<mpsc::Receiver<Row>>,
}

impl Queue {
    /// A queue with room for two batches: one that is being read, one that is being claimed.
    pub(super) fn new(batch_size: usize) -> (mpsc::Sender<Row>, Self) {
        let (sender, receiver) = mpsc::channel(batch_size * 2);
        let rows = Mutex::new(receiver);
        (sender, Self { rows })
    }

    /// Takes up to `limit` rows, waiting for the first; none if the senders are gone.
    async fn take(&self, limit: usize) -> Vec<Row> {
        let mut rows = Vec::with_capacity(limit);
        self.rows.lock().await.recv_many(&mut rows, limit).await;
        rows
    }
}

/// Runs what is in the queue until its senders are gone.
pub(super) async fn work<Src, I>(engine: Arc<Engine<Src, I>>, queue: Arc<Queue>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    loop {
        let rows = queue.take(engine.settings.rows_per_worker()).await;
        if rows.is_empty() {
            return;
        }
        run(&engine, rows).await;
    }
}

/// Runs rows in a task of its own, which nobody aborts: a transaction is never cut from outside,
/// and a panic in a destructor of a handler's future does not end the worker.
pub(super) async fn run<Src, I>(engine: &Arc<Engine<Src, I>>, rows: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let leases: Vec<_> = rows.iter().map(|row| row.lease).collect();
    let task = tokio::spawn({
        let engine = Arc::clone(engine);
        async move {
            engine.held.take_on(&rows);
            run_by_route(&engine, rows).await;
        }
    });
    if let Err(error) = task.await {
        tracing::error!(
            %error,
            rows = leases.len(),
            "a worker's task ended early; its rows run again when their leases have lapsed"
        );
        engine.held.remove(leases);
    }
}

async fn run_by_route<Src, I>(engine: &Engine<Src, I>, rows: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut transactional = Vec::new();
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
        run_in_units(engine, transactional),
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
