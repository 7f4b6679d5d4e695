//! The one reader of an ordered stream.
//!
//! A group deals its entries to its consumers at random, so that only one process of a consumer reads:
//! the one that has the lease for it. Before it reads what is new, and whenever others of the group
//! have entries pending, it takes over all of them, so that entries are stored in the order of the
//! stream whoever was given them. The others wait for the lease. One that goes on reading when its lease
//! is over stores nothing: the insert asks for its term.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    engine::Engine,
    ingest::{Portion, claim, read_batch},
    intake::{Intake, Intended},
    lanes::take_in,
    outage::Outage,
    queue::Feeder,
};
use crate::{
    error::{Result, chain},
    inbox::{Inbox, ReaderLease},
    stream::Source,
};

/// The right to read, as long as this process has it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) lease: ReaderLease,
    /// It is over: another process may have it.
    pub(super) lost: CancellationToken,
}

impl Reading {
    pub(super) fn new(lease: ReaderLease) -> Self {
        Self {
            lease,
            lost: CancellationToken::new(),
        }
    }
}

/// Reads whenever this process is the one to do so, until the consumer stops.
pub(super) async fn read_alone<Src, I>(engine: Arc<Engine<Src, I>>, feeder: Feeder)
where
    Src: Source,
    I: Inbox,
{
    let streams = engine.source.streams();
    let stand_by = engine.settings.poll_interval.min(engine.settings.lease / 3);
    let mut outage = Outage::new("taking the right to read", &engine.vitals.database);
    while !engine.stopping.is_cancelled() {
        let asked = Instant::now();
        match engine.inbox.acquire_reading(&engine.holder, &streams).await {
            Ok(Some(lease)) => {
                outage.over();
                read_until_lost(&engine, &feeder, Reading::new(lease), asked).await;
            }
            Ok(None) => {
                outage.over();
                tokio::select! {
                    () = engine.stopping.cancelled() => return,
                    () = tokio::time::sleep(stand_by) => {}
                }
            }
            Err(error) => {
                outage.wait_unless(&engine.stopping, &error).await;
            }
        }
    }
}

/// Reads while the lease is extended in time, and then gives it up.
async fn read_until_lost<Src, I>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    reading: Reading,
    since: Instant,
) where
    Src: Source,
    I: Inbox,
{
    let consumer = &engine.holder.consumer;
    tracing::info!(
        consumer,
        "this process reads, as the only one of its consumer"
    );
    let mut work = pin!(read(engine, feeder, &reading));
    tokio::select! {
        () = &mut work => {}
        () = extend(engine, &reading, since) => {
            tracing::warn!(consumer, "another process may read by now; this one stops reading");
            reading.lost.cancel();
            engine.source.interrupt().await;
            work.await;
        }
    }
    if let Err(error) = release(engine, &reading).await {
        tracing::warn!(
            consumer,
            error = chain(&error),
            "the right to read could not be given up; another process has it when it has lapsed"
        );
    }
}

async fn release<Src, I: Inbox>(engine: &Engine<Src, I>, reading: &Reading) -> Result<()> {
    let releasing = engine.inbox.release_reading(&engine.holder, &reading.lease);
    engine.vitals.database.ask(releasing).await
}

/// Extends the lease each third of its time; ends when it is over.
async fn extend<Src, I: Inbox>(engine: &Engine<Src, I>, reading: &Reading, since: Instant) {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

    let time = engine.settings.lease;
    let mut lasts_until = since + time;
    let mut pause = time / 3;
    loop {
        let again = Instant::now() + pause;
        tokio::time::sleep_until(again.min(lasts_until)).await;
        let asked = Instant::now();
        if asked >= lasts_until {
            return;
        }
        let extending = engine.inbox.extend_reading(&engine.holder, &reading.lease);
        match tokio::time::timeout_at(lasts_until, extending).await {
            Ok(Ok(true)) => {
                lasts_until = asked + time;
                pause = time / 3;
            }
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = chain(&error),
                    "the right to read could not be extended yet"
                );
                pause = (time / 10).max(SHORTEST_PAUSE);
            }
        }
    }
}

async fn read<Src, I>(engine: &Engine<Src, I>, feeder: &Feeder, reading: &Reading)
where
    Src: Source,
    I: Inbox,
{
    let mut reader = Reader {
        engine,
        feeder,
        reading,
        intake: Intake::new(engine, feeder),
        portion: Portion::new(engine.settings.batch_size),
    };
    let mut outage = Outage::new("reading the stream", &engine.vitals.broker);
    while !reader.is_over() {
        match reader.turn().await {
            Ok(()) => outage.over(),
            Err(error) => {
                tokio::select! {
                    () = reading.lost.cancelled() => return,
                    _ = outage.wait_unless(&engine.stopping, &error) => {}
                }
            }
        }
    }
}

struct Reader<'r, Src, I: Inbox> {
    engine: &'r Engine<Src, I>,
    feeder: &'r Feeder,
    reading: &'r Reading,
    intake: Intake<'r, Src, I>,
    portion: Portion,
}

impl<Src: Source, I: Inbox> Reader<'_, Src, I> {
    fn is_over(&self) -> bool {
        self.engine.stopping.is_cancelled() || self.reading.lost.is_cancelled()
    }

    /// Takes over what is pending, and then reads until something is pending again that is not this
    /// consumer's.
    async fn turn(&mut self) -> Result<()> {
        let engine = self.engine;
        self.take_over().await?;
        while let Some(intended) = self.intend().await {
            let batch = read_batch(engine, self.portion.entries).await?;
            // What was read comes again, in its place.
            if self.others_have_pending().await? {
                return Ok(());
            }
            self.portion.fit(&batch);
            if !batch.is_empty() {
                take_in(
                    engine,
                    self.feeder,
                    batch,
                    intended,
                    None,
                    Some(self.reading),
                )
                .await;
            }
        }
        Ok(())
    }

    /// Stores all that is pending in the group, whoever has it, from the first entry on.
    async fn take_over(&mut self) -> Result<()> {
        let engine = self.engine;
        engine.vitals.broker.ask(engine.source.open()).await?;
        while let Some(intended) = self.intend().await {
            let batch = claim(engine, Duration::ZERO, self.portion.entries).await?;
            if batch.is_empty() {
                break;
            }
            self.portion.fit(&batch);
            engine.counters.claimed.add_len(batch.entries.len());
            take_in(
                engine,
                self.feeder,
                batch,
                intended,
                None,
                Some(self.reading),
            )
            .await;
        }
        Ok(())
    }

    async fn intend(&mut self) -> Option<Intended> {
        tokio::select! {
            biased;
            () = self.reading.lost.cancelled() => None,
            intended = self.intake.next() => intended,
        }
    }

    async fn others_have_pending(&self) -> Result<bool> {
        let asking = self.engine.source.others_have_pending();
        self.engine.vitals.broker.ask(asking).await
    }
}
