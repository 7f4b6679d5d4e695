//! Batches on their way from the stream to the workers, a few side by side: one is read while others
//! are stored.

use std::{collections::VecDeque, convert::Infallible, panic::resume_unwind, sync::Arc};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    engine::Engine,
    intake::Intended,
    outage::Outage,
    queue::Feeder,
    reader::Reading,
    storing::{Storing, store},
};
use crate::{
    error::Result,
    fail_point::{self, Point},
    inbox::{Admission, Inbox, Row},
    stream::{Batch, EntryId, Source},
};

/// How many batches are stored at once: while some wait for their commits, others are taken apart. With fewer,
/// the CPUs wait for the disk.
pub(super) const LANES: usize = 4;

/// The batches that are being stored.
pub(super) struct Lanes {
    running: VecDeque<JoinHandle<()>>,
    /// Told when the last of them has handed over its rows.
    before: Option<oneshot::Receiver<Infallible>>,
}

/// When a batch hands over its rows.
pub(super) struct Turn {
    before: Option<oneshot::Receiver<Infallible>>,
    /// Tells the next one when it is dropped.
    done: oneshot::Sender<Infallible>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            running: VecDeque::with_capacity(LANES),
            before: None,
        }
    }

    /// Takes a batch, once a lane is free.
    pub(super) async fn take<Src, I>(
        &mut self,
        engine: &Arc<Engine<Src, I>>,
        feeder: &Feeder,
        batch: Batch,
        intended: Intended,
    ) where
        Src: Source,
        I: Inbox,
    {
        if batch.is_empty() {
            return;
        }
        let intended = match intended {
            // An entry that is delivered once more may have ended the process that ran it.
            Intended::Run(room) if engine.is_inline() && !batch.redelivered => {
                return feeder.fresh(room, batch);
            }
            intended => intended,
        };
        let is_over = |lane: &JoinHandle<()>| lane.is_finished();
        while self.running.len() >= LANES || self.running.front().is_some_and(is_over) {
            self.join_first().await;
        }
        // Stored side by side, they are handed over in the order in which they were read.
        let (done, before) = oneshot::channel();
        let turn = Turn {
            before: self.before.replace(before),
            done,
        };
        let (engine, feeder) = (Arc::clone(engine), feeder.clone());
        self.running.push_back(tokio::spawn(Box::pin(async move {
            take_in(&engine, &feeder, batch, intended, Some(turn)).await;
        })));
    }

    /// Waits for what is being stored.
    pub(super) async fn finish(mut self) {
        while !self.running.is_empty() {
            self.join_first().await;
        }
    }

    async fn join_first(&mut self) {
        if let Some(lane) = self.running.pop_front()
            && let Err(error) = lane.await
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
    }
}

/// Stores a batch, hands its rows to the workers when it is their `turn`, and acknowledges it.
pub(super) async fn take_in<Src, I>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    batch: Batch,
    intended: Intended,
    turn: Option<Turn>,
) where
    Src: Source,
    I: Inbox,
{
    let entries = entries_of(&batch);
    if keep(engine, feeder, batch, intended, turn, None).await {
        acknowledge(engine, &entries).await;
    }
}

/// Stores a batch, and hands its rows to the workers when it is their `turn`; `false` if it was not stored.
/// `reading` is the right of the one reader of an ordered stream.
pub(super) async fn keep<Src, I>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    batch: Batch,
    intended: Intended,
    turn: Option<Turn>,
    reading: Option<&Reading>,
) -> bool
where
    Src: Source,
    I: Inbox,
{
    let admission = match intended {
        Intended::Run(_) => Admission::Run,
        Intended::Wait(_) => Admission::Wait,
    };
    note_trimmed(engine, &batch);
    let mut storing = Storing::new(engine, &batch.entries, &admission).read_by(reading);
    let Some(rows) = store(engine, &mut storing).await else {
        return false;
    };
    if let Some(Turn { before, done }) = turn {
        if let Some(before) = before {
            // It never says a thing: it is dropped.
            _ = before.await;
        }
        hand_over(engine, feeder, rows, intended).await;
        drop(done);
    } else {
        hand_over(engine, feeder, rows, intended).await;
    }
    true
}

async fn hand_over<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    rows: Vec<Row>,
    intended: Intended,
) {
    match intended {
        Intended::Run(room) => feeder.rows(room, rows).await,
        Intended::Wait(promise) => {
            drop(promise);
            engine.due_changed.notify_one();
        }
    }
}

/// Counts and logs what is lost of a batch.
pub(super) fn note_trimmed<Src, I: Inbox>(engine: &Engine<Src, I>, batch: &Batch) {
    if batch.trimmed.is_empty() {
        return;
    }
    engine.counters.trimmed.add_len(batch.trimmed.len());
    tracing::error!(
        entries = batch.trimmed.len(),
        "entries were trimmed from the stream before they were stored: they are lost; do not trim what a group has not acknowledged"
    );
}

/// All entries of a batch, to acknowledge them.
pub(super) fn entries_of(batch: &Batch) -> Vec<EntryId> {
    let entries = batch.entries.iter().map(|entry| &entry.id);
    entries.chain(&batch.trimmed).cloned().collect()
}

/// Acknowledges entries whose rows are committed, and waits for the server; if the consumer stops
/// before it has taken it, the entries come again and are found to be duplicates.
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

pub(super) async fn try_acknowledge<Src, I>(
    engine: &Engine<Src, I>,
    entries: &[EntryId],
) -> Result<()>
where
    Src: Source,
    I: Inbox,
{
    fail_point::reach(Point::BeforeAck).await?;
    engine.source.acknowledge(entries).await?;
    fail_point::reach(Point::AfterAck).await
}
