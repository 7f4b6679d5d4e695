//! What new events are to become: rows for this process's workers, or rows that wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    engine::Engine,
    outage::Outage,
    queue::{Feeder, Room},
};
use crate::inbox::Inbox;

/// How long the workers may take to make room. After that they are behind, and what is read waits in
/// the inbox: it is safer there than in the stream, and free for other processes.
const BEHIND: Duration = Duration::from_millis(100);

/// The same while they are behind. Workers that have caught up make room in less, though what waits in
/// the inbox wants room as well: a row that waits there costs a claim.
const STILL_BEHIND: Duration = Duration::from_millis(20);

/// How many rows are stored to wait between two such waits: 25,000 in a second.
const AT_ONCE: usize = 500;

/// What is intended with the next batch.
pub(super) enum Intended {
    /// The workers of this process have room for it.
    Run(Room),
    /// It is stored for whoever has room first.
    Wait(Promise),
}

/// Rows that are to wait and are not stored yet, in all of a consumer's loops.
#[derive(Debug, Clone, Default)]
pub(super) struct Promised(Arc<AtomicU64>);

/// A batch of them, until it is stored.
pub(super) struct Promise {
    rows: u64,
    promised: Promised,
}

impl Promised {
    fn promise(&self, rows: u64) -> Promise {
        self.0.fetch_add(rows, Ordering::SeqCst);
        Promise {
            rows,
            promised: self.clone(),
        }
    }

    fn rows(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.0.fetch_sub(self.rows, Ordering::SeqCst);
    }
}

/// Decides what the next batch is to become.
pub(super) struct Intake<'e, Src, I: Inbox> {
    engine: &'e Engine<Src, I>,
    feeder: &'e Feeder,
    /// How many more rows may wait, by the last look.
    allowance: u64,
    /// The workers had no room for the last batch.
    is_behind: bool,
    /// How many rows were stored to wait since room was waited for.
    at_once: usize,
    outage: Outage<'e>,
}

impl<'e, Src, I> Intake<'e, Src, I>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    pub(super) fn new(engine: &'e Engine<Src, I>, feeder: &'e Feeder) -> Self {
        Self {
            engine,
            feeder,
            allowance: 0,
            is_behind: false,
            at_once: 0,
            outage: Outage::new("counting due rows", &engine.vitals.database),
        }
    }

    /// Waits until a batch may be read; `None` if the consumer stops.
    pub(super) async fn next(&mut self) -> Option<Intended> {
        let engine = self.engine;
        tokio::select! {
            biased;
            () = engine.stopping.cancelled() => None,
            intended = self.intend() => Some(intended),
        }
    }

    async fn intend(&mut self) -> Intended {
        let (engine, feeder) = (self.engine, self.feeder);
        let batch_size = engine.settings.batch_size;
        engine.able_worker().await;
        engine.late.room().await;
        let mut patience = self.patience();
        loop {
            let room = tokio::time::timeout(patience, feeder.room(batch_size)).await;
            self.is_behind = room.is_err();
            if let Ok(room) = room {
                return Intended::Run(room);
            }
            if let Some(promise) = self.promise(batch_size).await {
                self.at_once += batch_size;
                return Intended::Wait(promise);
            }
            patience = engine.settings.poll_interval;
        }
    }

    /// How long room for the next batch is waited for.
    fn patience(&mut self) -> Duration {
        if !self.is_behind {
            return BEHIND;
        }
        if self.at_once < AT_ONCE {
            return Duration::ZERO;
        }
        self.at_once = 0;
        STILL_BEHIND
    }

    /// A batch more, if it may wait in the inbox.
    async fn promise(&mut self, batch_size: usize) -> Option<Promise> {
        let rows = u64::try_from(batch_size).unwrap_or(u64::MAX);
        if self.allowance < rows {
            self.allowance = self.look().await;
        }
        self.allowance = self.allowance.checked_sub(rows)?;
        Some(self.engine.promised.promise(rows))
    }

    async fn look(&mut self) -> u64 {
        let engine = self.engine;
        let mark = engine.settings.high_water_mark;
        if mark == 0 {
            return 0;
        }
        // Before the others are counted: what is stored meanwhile is rather counted twice.
        let promised = engine.promised.rows();
        let counting = engine.inbox.backlog(&engine.holder.consumer, mark);
        match engine.vitals.database.ask(counting).await {
            Ok(waiting) => {
                self.outage.over();
                u64::from(mark).saturating_sub(waiting + promised)
            }
            Err(error) => {
                self.outage.wait(&error).await;
                0
            }
        }
    }
}
