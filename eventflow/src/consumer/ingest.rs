//! From the stream into the inbox: read, store, acknowledge, hand to the workers.
//!
//! An entry is acknowledged only when its row has been committed. A process that dies before that
//! leaves the entry pending at the server; one that dies after it leaves a leased row.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{engine::Engine, outage::Outage, storing::Storing};
use crate::{
    error::Result,
    fail_point::{self, Point},
    inbox::{Inbox, Row},
    stream::{Batch, Entry, EntryId, Source},
};

/// Reads new entries until the consumer stops.
pub(super) async fn read<Src, I>(engine: Arc<Engine<Src, I>>, queue: mpsc::Sender<Row>)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("reading the stream", &engine.vitals.broker);
    let mut portion = Portion::new(engine.settings.batch_size);
    while let Some(room) = room(&engine, &queue).await {
        let batch = match read_batch(&engine, portion.entries).await {
            Ok(batch) => batch,
            Err(error) => {
                drop(room);
                if !outage.wait_unless(&engine.stopping, &error).await {
                    break;
                }
                continue;
            }
        };
        outage.over();
        portion.fit(&batch);
        let Some(stored) = store(&engine, batch).await else {
            break;
        };
        enqueue(room, &queue, stored.rows).await;
        acknowledge(&engine, &stored.entries).await;
    }
}

/// How many entries are asked for at once: the fewer, the larger they were.
struct Portion {
    entries: usize,
    most: usize,
}

impl Portion {
    /// How many bytes of entries a batch should have, unless a single entry has more.
    const BYTES: usize = 4 * 1024 * 1024;

    const fn new(most: usize) -> Self {
        Self {
            entries: most,
            most,
        }
    }

    fn fit(&mut self, batch: &Batch) {
        let bytes: usize = batch.entries.iter().map(Entry::bytes).sum();
        let average = bytes / batch.entries.len().max(1);
        let fitting = Self::BYTES / average.max(1);
        // Growing slowly: small entries between large ones say little of what comes next.
        let grown = self.entries.saturating_mul(2);
        self.entries = fitting.min(grown).clamp(1, self.most);
    }
}

async fn read_batch<Src: Source, I: Inbox>(
    engine: &Engine<Src, I>,
    entries: usize,
) -> Result<Batch> {
    let read = engine.source.read(entries, Some(engine.settings.block));
    let batch = engine.vitals.broker.ask(read).await?;
    engine.vitals.note_read();
    if !batch.is_empty() {
        fail_point::reach(Point::AfterRead).await?;
    }
    Ok(batch)
}

/// Takes over what other consumers of the group have left pending, until the consumer stops.
pub(super) async fn take_over<Src, I>(engine: Arc<Engine<Src, I>>, queue: mpsc::Sender<Row>)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("claiming entries of other consumers", &engine.vitals.broker);
    let idle = engine.settings.claim_idle;
    let mut portion = Portion::new(engine.settings.batch_size);
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = engine.stopping.cancelled() => break,
            _ = ticks.tick() => {}
        }
        // An empty claim ends the round; until then there may be more than one batch.
        loop {
            let Some(room) = room(&engine, &queue).await else {
                break;
            };
            let batch = match claim(&engine, idle, portion.entries).await {
                Ok(batch) => batch,
                Err(error) => {
                    drop(room);
                    outage.wait_unless(&engine.stopping, &error).await;
                    break;
                }
            };
            outage.over();
            portion.fit(&batch);
            engine.counters.claimed.add_len(batch.entries.len());
            if batch.is_empty() {
                break;
            }
            let Some(stored) = store(&engine, batch).await else {
                break;
            };
            enqueue(room, &queue, stored.rows).await;
            acknowledge(&engine, &stored.entries).await;
        }
    }
}

async fn claim<Src: Source, I: Inbox>(
    engine: &Engine<Src, I>,
    idle: Duration,
    entries: usize,
) -> Result<Batch> {
    let claiming = engine.source.claim(idle, entries);
    engine.vitals.broker.ask(claiming).await
}

/// Waits for room for a whole batch; `None` if the consumer stops.
pub(super) async fn room<'q, Src, I>(
    engine: &Engine<Src, I>,
    queue: &'q mpsc::Sender<Row>,
) -> Option<mpsc::PermitIterator<'q, Row>>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let room = async {
        engine.able_worker().await;
        queue.reserve_many(engine.settings.batch_size).await
    };
    tokio::select! {
        biased;
        () = engine.stopping.cancelled() => None,
        room = room => room.ok(),
    }
}

/// Gives rows to the workers. A source that gave more than it was asked for has to wait.
async fn enqueue(
    mut room: mpsc::PermitIterator<'_, Row>,
    queue: &mpsc::Sender<Row>,
    rows: Vec<Row>,
) {
    for row in rows {
        match room.next() {
            Some(permit) => permit.send(row),
            // The workers outlive every sender, so a row is never refused here.
            None => queue.send(row).await.unwrap_or_default(),
        }
    }
}

/// A batch whose rows are committed.
pub(super) struct Stored {
    /// The rows to run.
    pub(super) rows: Vec<Row>,
    /// The entries to acknowledge.
    pub(super) entries: Vec<EntryId>,
}

/// Stores a batch; `None` if the consumer stopped before the inbox took all of it: the entries stay
/// pending at the server.
pub(super) async fn store<Src, I>(engine: &Engine<Src, I>, batch: Batch) -> Option<Stored>
where
    Src: Source,
    I: Inbox,
{
    engine.counters.trimmed.add_len(batch.trimmed.len());
    if !batch.trimmed.is_empty() {
        tracing::error!(
            entries = batch.trimmed.len(),
            "entries were trimmed from the stream before they were stored: they are lost; do not trim what a group has not acknowledged"
        );
    }
    let mut outage = Outage::new("storing a batch", &engine.vitals.database);
    let mut storing = Storing::new(engine, &batch.entries);
    while let Err(error) = storing.store(engine).await {
        if !outage.wait_unless(&engine.stopping, &error).await {
            engine.hand_back(&storing.rows).await;
            return None;
        }
    }
    outage.over();
    let rows = storing.rows;
    let entries = batch.entries.into_iter().map(|entry| entry.id);
    let entries = entries.chain(batch.trimmed).collect();
    Some(Stored { rows, entries })
}

/// Acknowledges entries whose rows are committed. Until the server has taken it, nothing more is
/// read; if the consumer stops before, the entries come again and are found to be duplicates.
pub(super) async fn acknowledge<Src, I>(engine: &Engine<Src, I>, entries: &[EntryId])
where
    Src: Source,
    I: Inbox,
{
    if entries.is_empty() {
        return;
    }
    let mut outage = Outage::new("acknowledging stored entries", &engine.vitals.broker);
    while let Err(error) = try_acknowledge(engine, entries).await {
        if !outage.wait_unless(&engine.stopping, &error).await {
            return;
        }
    }
    outage.over();
}

async fn try_acknowledge<Src, I>(engine: &Engine<Src, I>, entries: &[EntryId]) -> Result<()>
where
    Src: Source,
    I: Inbox,
{
    fail_point::reach(Point::BeforeAck).await?;
    engine.source.acknowledge(entries).await?;
    fail_point::reach(Point::AfterAck).await
}
