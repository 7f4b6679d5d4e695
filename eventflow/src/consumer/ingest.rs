//! Reads the stream: new entries, and what other consumers have left. Storing them is the part of `lanes`.
//!
//! An entry is acknowledged only when its row has been committed. A process that dies before that
//! leaves the entry pending at the server; one that dies after it leaves a row: leased, or waiting.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{
    engine::Engine,
    intake::Intake,
    lanes::{Lanes, take_in},
    outage::Outage,
    queue::Feeder,
};
use crate::{
    error::Result,
    fail_point::{self, Point},
    inbox::Inbox,
    stream::{Batch, Entry, Source},
};

/// Reads new entries until the consumer stops.
pub(super) async fn read<Src, I>(engine: Arc<Engine<Src, I>>, feeder: Feeder)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("reading the stream", &engine.vitals.broker);
    let mut portion = Portion::new(engine.settings.batch_size);
    let mut intake = Intake::new(&engine, &feeder);
    let mut lanes = Lanes::new();
    while let Some(intended) = intake.next().await {
        let batch = match read_batch(&engine, portion.entries).await {
            Ok(batch) => batch,
            Err(error) => {
                drop(intended);
                if !outage.wait_unless(&engine.stopping, &error).await {
                    break;
                }
                continue;
            }
        };
        outage.over();
        portion.fit(&batch);
        lanes.take(&engine, &feeder, batch, intended).await;
    }
    lanes.finish().await;
}

/// How many entries are asked for at once: the fewer, the larger they were.
pub(super) struct Portion {
    pub(super) entries: usize,
    most: usize,
}

impl Portion {
    /// How many bytes of entries a batch should have, unless a single entry has more.
    const BYTES: usize = 4 * 1024 * 1024;

    pub(super) const fn new(most: usize) -> Self {
        Self {
            entries: most,
            most,
        }
    }

    pub(super) fn fit(&mut self, batch: &Batch) {
        let bytes: usize = batch.entries.iter().map(Entry::bytes).sum();
        let average = bytes / batch.entries.len().max(1);
        let fitting = Self::BYTES / average.max(1);
        // Growing slowly: small entries between large ones say little of what comes next.
        let grown = self.entries.saturating_mul(2);
        self.entries = fitting.min(grown).clamp(1, self.most);
    }
}

pub(super) async fn read_batch<Src: Source, I: Inbox>(
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
pub(super) async fn take_over<Src, I>(engine: Arc<Engine<Src, I>>, feeder: Feeder)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("claiming entries of other consumers", &engine.vitals.broker);
    let idle = engine.settings.claim_idle;
    let mut portion = Portion::new(engine.settings.batch_size);
    let mut intake = Intake::new(&engine, &feeder);
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = engine.stopping.cancelled() => break,
            _ = ticks.tick() => {}
        }
        // An empty claim ends the round; until then there may be more than one batch.
        while let Some(intended) = intake.next().await {
            let batch = match claim(&engine, idle, portion.entries).await {
                Ok(batch) => batch,
                Err(error) => {
                    drop(intended);
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
            take_in(&engine, &feeder, batch, intended, None).await;
        }
    }
}

pub(super) async fn claim<Src: Source, I: Inbox>(
    engine: &Engine<Src, I>,
    idle: Duration,
    entries: usize,
) -> Result<Batch> {
    let claiming = engine.source.claim(idle, entries);
    engine.vitals.broker.ask(claiming).await
}
