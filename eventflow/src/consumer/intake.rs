//! What new events are to become: rows for this process's workers, or rows that wait.

use std::time::Duration;

use super::{
    engine::Engine,
    outage::Outage,
    queue::{Feeder, Room},
};
use crate::inbox::Inbox;

/// How long the workers may take to make room. After that they are behind, and what is read waits in
/// the inbox: it is safer there than in the stream, and free for other processes.
const BEHIND: Duration = Duration::from_millis(100);

/// What is intended with the next batch.
pub(super) enum Intended {
    /// The workers of this process have room for it.
    Run(Room),
    /// It is stored for whoever has room first.
    Wait,
}

/// Decides what the next batch is to become.
pub(super) struct Intake<'e, Src, I: Inbox> {
    engine: &'e Engine<Src, I>,
    feeder: &'e Feeder,
    /// How many more rows may wait, by the last look.
    allowance: u64,
    /// The workers had no room for the last batch.
    is_behind: bool,
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
        let mut patience = if self.is_behind {
            Duration::ZERO
        } else {
            BEHIND
        };
        loop {
            let room = tokio::time::timeout(patience, feeder.room(batch_size)).await;
            self.is_behind = room.is_err();
            if let Ok(room) = room {
                return Intended::Run(room);
            }
            if self.may_wait(batch_size).await {
                return Intended::Wait;
            }
            patience = engine.settings.poll_interval;
        }
    }

    /// Whether a batch more may wait in the inbox.
    async fn may_wait(&mut self, batch_size: usize) -> bool {
        let batch_size = u64::try_from(batch_size).unwrap_or(u64::MAX);
        if self.allowance < batch_size {
            self.allowance = self.look().await;
        }
        let may_wait = self.allowance >= batch_size;
        if may_wait {
            self.allowance -= batch_size;
        }
        may_wait
    }

    async fn look(&mut self) -> u64 {
        let engine = self.engine;
        let mark = engine.settings.high_water_mark;
        if mark == 0 {
            return 0;
        }
        let counting = engine.inbox.backlog(&engine.holder.consumer, mark);
        match engine.vitals.database.ask(counting).await {
            Ok(waiting) => {
                self.outage.over();
                u64::from(mark).saturating_sub(waiting)
            }
            Err(error) => {
                self.outage.wait(&error).await;
                0
            }
        }
    }
}
