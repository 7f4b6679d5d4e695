//! The one reader of an ordered stream.
//!
//! A group deals its entries to its consumers at random, so that only one process of a consumer reads:
//! the one that has the lease for it. Before it reads what is new, and whenever others of the group
//! have entries pending, it takes over all of them, so that entries are stored in the order of the
//! stream whoever was given them. The others wait for the lease. One that goes on reading when its lease
//! is over stores nothing: the insert asks for its term. One that has the lease in vain, since the stream
//! does not answer it or its workers are all stuck, gives it up.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    engine::Engine,
    ingest::{Portion, claim, read_batch},
    intake::{Intake, Intended},
    lanes::{entries_of, keep, try_acknowledge},
    outage::Outage,
    queue::Feeder,
};
use crate::{
    error::{Error, ErrorKind, Result, chain},
    inbox::{Inbox, ReaderLease},
    stream::{Batch, EntryId, Source},
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

/// Why this process reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It stops, or another process may read.
    Over,
    /// Another process may be able to read.
    InVain,
}

/// Checks that the inbox gives a reader what it needs: the right to read, and places for what it stores.
pub(super) async fn check<Src: Source, I: Inbox>(engine: &Engine<Src, I>) -> Result<()> {
    if engine.settings.order.is_none() {
        return Ok(());
    }
    let (inbox, holder) = (&engine.inbox, &engine.holder);
    let streams = engine.source.streams();
    // Whoever has the right was given it by the same table.
    let Some(lease) = inbox.acquire_reading(holder, &streams).await? else {
        return Ok(());
    };
    let stored = inbox.insert_in_order(holder, &lease, Vec::new()).await;
    inbox.release_reading(holder, &lease).await?;
    stored.map(drop)
}

/// Reads whenever this process is the one to do so, until the consumer stops.
pub(super) async fn read_alone<Src, I>(engine: Arc<Engine<Src, I>>, feeder: Feeder)
where
    Src: Source,
    I: Inbox,
{
    let streams = engine.source.streams();
    let stand_by = stand_by(&engine);
    let unread = || Outage::new("reading the stream", &engine.vitals.broker);
    let mut outage = Outage::new("taking the right to read", &engine.vitals.database);
    // Outlasts a lease: a stream that cannot be read still cannot when the lease is given up.
    let mut reading_outage = unread();
    while !engine.stopping.is_cancelled() {
        let asked = Instant::now();
        match engine.inbox.acquire_reading(&engine.holder, &streams).await {
            Ok(Some(lease)) => {
                outage.over();
                let reading = Reading::new(lease);
                let end =
                    read_until_lost(&engine, &feeder, &mut reading_outage, reading, asked).await;
                if end == End::InVain {
                    // Each of the others asks meanwhile.
                    engine.pause(stand_by * 2).await;
                    engine.able_worker().await;
                }
            }
            Ok(None) => {
                outage.over();
                reading_outage = unread();
                engine.pause(stand_by).await;
            }
            Err(error) => {
                outage.wait_unless(&engine.stopping, &error).await;
            }
        }
    }
}

/// Takes the right to read, waiting for as long as the lease of a process that has died may last.
pub(super) async fn acquire_soon<Src: Source, I: Inbox>(
    engine: &Engine<Src, I>,
) -> Result<Reading> {
    let streams = engine.source.streams();
    let deadline = Instant::now() + engine.settings.lease;
    loop {
        // Asked once more after the deadline: the lease may have lapsed at it.
        let is_last = Instant::now() >= deadline;
        let leasing = engine.inbox.acquire_reading(&engine.holder, &streams);
        match leasing.await? {
            Some(lease) => return Ok(Reading::new(lease)),
            None if is_last => return Err(taken()),
            None => tokio::time::sleep(stand_by(engine)).await,
        }
    }
}

fn taken() -> Error {
    let message = "another process of the consumer reads the stream; let it, or try again when it has stopped";
    Error::new(ErrorKind::Inbox, message).transient(true)
}

/// How often the right to read is asked for that another process has.
fn stand_by<Src, I: Inbox>(engine: &Engine<Src, I>) -> Duration {
    engine.settings.poll_interval.min(engine.settings.lease / 3)
}

/// Reads while the lease is extended in time and of use, and then gives it up.
async fn read_until_lost<Src, I>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    outage: &mut Outage<'_>,
    reading: Reading,
    since: Instant,
) -> End
where
    Src: Source,
    I: Inbox,
{
    let consumer = &engine.holder.consumer;
    tracing::info!(
        consumer,
        "this process reads, as the only one of its consumer"
    );
    let mut work = pin!(read(engine, feeder, outage, &reading));
    let end = tokio::select! {
        end = &mut work => end,
        () = extend(engine, &reading, since) => {
            tracing::warn!(consumer, "another process may read by now; this one stops reading");
            reading.lost.cancel();
            engine.source.interrupt().await;
            work.await
        }
    };
    if end == End::InVain {
        tracing::warn!(
            consumer,
            "this process cannot read, or none of its workers can go on; it gives the right to read up for another"
        );
    }
    if let Err(error) = release(engine, &reading).await {
        tracing::warn!(
            consumer,
            error = chain(&error),
            "the right to read could not be given up; another process has it when it has lapsed"
        );
    }
    end
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

/// Reads until it is over, or has been in vain for a third of the lease's time.
async fn read<Src, I>(
    engine: &Engine<Src, I>,
    feeder: &Feeder,
    outage: &mut Outage<'_>,
    reading: &Reading,
) -> End
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
        stored: Vec::new(),
        failing_since: None,
        in_vain: false,
    };
    while !reader.is_over() {
        if let Err(error) = reader.turn(outage).await {
            let since = *reader.failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= engine.settings.lease / 3 {
                return End::InVain;
            }
            tokio::select! {
                () = reading.lost.cancelled() => return End::Over,
                _ = outage.wait_unless(&engine.stopping, &error) => {}
            }
        }
    }
    if reader.in_vain {
        End::InVain
    } else {
        End::Over
    }
}

struct Reader<'r, Src, I: Inbox> {
    engine: &'r Engine<Src, I>,
    feeder: &'r Feeder,
    reading: &'r Reading,
    intake: Intake<'r, Src, I>,
    portion: Portion,
    /// Stored, and not acknowledged yet.
    stored: Vec<EntryId>,
    /// When the first failure was since which nothing has come of reading.
    failing_since: Option<Instant>,
    /// What is read would run nowhere here.
    in_vain: bool,
}

impl<Src: Source, I: Inbox> Reader<'_, Src, I> {
    fn is_over(&self) -> bool {
        self.engine.stopping.is_cancelled() || self.reading.lost.is_cancelled() || self.in_vain
    }

    /// Takes over what is pending, and then reads until something is pending again that is not this
    /// consumer's.
    async fn turn(&mut self, outage: &mut Outage<'_>) -> Result<()> {
        let engine = self.engine;
        self.acknowledge().await?;
        self.take_over(outage).await?;
        while let Some(intended) = self.intend().await {
            let batch = read_batch(engine, self.portion.entries).await?;
            // What was read comes again, in its place.
            if self.others_have_pending().await? {
                return Ok(());
            }
            self.take_in(batch, intended).await?;
            self.works(outage);
        }
        Ok(())
    }

    /// Stores all that is pending in the group, whoever has it, from the first entry on.
    async fn take_over(&mut self, outage: &mut Outage<'_>) -> Result<()> {
        let engine = self.engine;
        engine.vitals.broker.ask(engine.source.open()).await?;
        while let Some(intended) = self.intend().await {
            let batch = claim(engine, Duration::ZERO, self.portion.entries).await?;
            if batch.is_empty() {
                break;
            }
            engine.counters.claimed.add_len(batch.entries.len());
            self.take_in(batch, intended).await?;
            self.works(outage);
        }
        Ok(())
    }

    /// Notes that something came of reading.
    fn works(&mut self, outage: &mut Outage<'_>) {
        outage.over();
        self.failing_since = None;
    }

    async fn take_in(&mut self, batch: Batch, intended: Intended) -> Result<()> {
        self.portion.fit(&batch);
        if batch.is_empty() {
            return Ok(());
        }
        let entries = entries_of(&batch);
        let (engine, feeder) = (self.engine, self.feeder);
        if keep(engine, feeder, batch, intended, None, Some(self.reading)).await {
            self.stored = entries;
        }
        self.acknowledge().await
    }

    /// Acknowledges what is stored. What the server does not take is acknowledged in the next turn; what
    /// it has not taken in the end comes again, and is found to be a duplicate.
    async fn acknowledge(&mut self) -> Result<()> {
        if !self.stored.is_empty() {
            try_acknowledge(self.engine, &self.stored).await?;
            self.stored.clear();
        }
        Ok(())
    }

    async fn intend(&mut self) -> Option<Intended> {
        tokio::select! {
            biased;
            () = self.reading.lost.cancelled() => None,
            () = stuck(self.engine) => {
                self.in_vain = true;
                None
            }
            intended = self.intake.next() => intended,
        }
    }

    async fn others_have_pending(&self) -> Result<bool> {
        let asking = self.engine.source.others_have_pending();
        self.engine.vitals.broker.ask(asking).await
    }
}

/// Waits until all workers have been stuck for a third of the lease's time.
async fn stuck<Src: Send + Sync + 'static, I: Inbox>(engine: &Engine<Src, I>) {
    let mut since = None;
    loop {
        if engine.vitals.all_workers_are_stuck() {
            let since: Instant = *since.get_or_insert_with(Instant::now);
            if since.elapsed() >= engine.settings.lease / 3 {
                return;
            }
        } else {
            since = None;
        }
        tokio::time::sleep(stand_by(engine)).await;
    }
}
