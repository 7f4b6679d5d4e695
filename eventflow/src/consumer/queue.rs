//! What waits in this process for a worker: leased rows, and batches that no row exists of yet.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{lanes::LANES, pace::Pace};
use crate::{inbox::Row, stream::Batch};

/// How many batches may wait: those that are being stored, one that is being claimed, and one that keeps
/// the workers busy meanwhile.
const BATCHES: usize = LANES + 2;

/// What a worker takes at once.
pub(super) enum Work {
    /// Rows that are leased to this process.
    Rows(Vec<Row>),
    /// Entries to store, run and settle in one transaction.
    Fresh(Batch),
}

/// The queue between the loops that take on work and the workers.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    room: Arc<Semaphore>,
    /// How many workers share what waits.
    sharing: usize,
    /// How many rows a worker takes at once, at most.
    most: usize,
    pub(super) pace: Pace,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Row>,
    fresh: VecDeque<(Room, Batch)>,
    /// So many of the first rows were put back, and have no room of their own.
    put_back: usize,
    feeders: usize,
    /// The last worker took rows, so that a batch is next: neither is to wait for all of the others.
    batch_is_next: bool,
}

impl Queue {
    pub(super) fn new(batch_size: usize, sharing: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            room: Arc::new(Semaphore::new(batch_size * BATCHES)),
            sharing,
            most: batch_size,
            pace: Pace::default(),
        }
    }

    /// Takes a worker's share of what waits, and waits for it; `None` once nobody feeds the queue.
    ///
    /// A share leaves something for the other workers, so that slow handlers run side by side; where
    /// their units would wait for each other, and where handlers are quick, it is a batch.
    pub(super) async fn take(&self) -> Option<Work> {
        loop {
            let filled = self.filled.notified();
            {
                let mut waiting = self.lock();
                if let Some(work) = self.share(&mut waiting) {
                    if !waiting.rows.is_empty() || !waiting.fresh.is_empty() {
                        self.filled.notify_one();
                    }
                    return Some(work);
                }
                if waiting.feeders == 0 {
                    self.filled.notify_one();
                    return None;
                }
            }
            filled.await;
        }
    }

    fn share(&self, waiting: &mut Waiting) -> Option<Work> {
        if waiting.batch_is_next || waiting.rows.is_empty() {
            waiting.batch_is_next = false;
            if let Some((_room, batch)) = waiting.fresh.pop_front() {
                return Some(Work::Fresh(batch));
            }
        }
        if waiting.rows.is_empty() {
            return None;
        }
        waiting.batch_is_next = true;
        let share = self.pace.share(waiting.rows.len(), self.sharing);
        let share = share.min(self.most);
        let rows: Vec<Row> = waiting.rows.drain(..share).collect();
        let roomless = waiting.put_back.min(rows.len());
        waiting.put_back -= roomless;
        self.room.add_permits(rows.len() - roomless);
        Some(Work::Rows(rows))
    }

    /// Puts back rows of a share that takes long, for workers that have nothing to do; they come first.
    pub(super) fn put_back(&self, rows: VecDeque<Row>) {
        self.pace.forget();
        let mut waiting = self.lock();
        waiting.put_back += rows.len();
        for row in rows.into_iter().rev() {
            waiting.rows.push_front(row);
        }
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end that feeds the queue. The workers end when the last is dropped.
pub(super) struct Feeder(Arc<Queue>);

impl Feeder {
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        queue.lock().feeders += 1;
        Self(Arc::clone(queue))
    }

    /// Waits for room for this many rows.
    pub(super) async fn room(&self, rows: usize) -> Room {
        let permits = u32::try_from(rows).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.room).acquire_many_owned(permits).await;
        // Nobody closes the semaphore.
        Room(room.ok())
    }

    /// Gives rows to the workers. More than there is room for have to wait.
    pub(super) async fn rows(&self, room: Room, rows: Vec<Row>) {
        let mut rows = rows.into_iter();
        let mut room = room;
        loop {
            let chunk: Vec<Row> = rows.by_ref().take(room.size()).collect();
            self.push(room, chunk);
            let left = rows.len().min(self.0.most);
            if left == 0 {
                return;
            }
            room = self.room(left).await;
        }
    }

    fn push(&self, room: Room, rows: Vec<Row>) {
        let wakes = rows.len().min(self.0.sharing);
        // The workers give it back.
        room.keep(rows.len());
        self.0.lock().rows.extend(rows);
        for _ in 0..wakes {
            self.0.filled.notify_one();
        }
    }

    /// Gives a worker a batch to store and run in one transaction.
    pub(super) fn fresh(&self, room: Room, batch: Batch) {
        self.0.lock().fresh.push_back((room, batch));
        self.0.filled.notify_one();
    }
}

impl Clone for Feeder {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.feeders -= 1;
        if waiting.feeders == 0 {
            self.0.filled.notify_waiters();
            self.0.filled.notify_one();
        }
    }
}

/// Room for rows that are still to come. What is not used is given back.
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    fn size(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn keep(mut self, rows: usize) {
        if let Some(kept) = self.0.as_mut().and_then(|permits| permits.split(rows)) {
            kept.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::{
        envelope::{Envelope, Metadata, Payload},
        inbox::Lease,
    };

    fn row(number: u128) -> Row {
        let metadata = Metadata {
            event_id: number.to_string(),
            event_type: "Tick".to_owned(),
            aggregate_id: Uuid::nil(),
            occurred_on: chrono::Utc::now(),
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            stream_id: None,
            attempt: 1,
        };
        Row {
            lease: Lease::first(Uuid::from_u128(number)),
            envelope: Envelope::from_parts(metadata, Payload::empty()),
            retry_count: 0,
            max_retries: 3,
            due_in: Duration::ZERO,
        }
    }

    async fn filled(rows: u128) -> (Arc<Queue>, Feeder) {
        let queue = Arc::new(Queue::new(100, 4));
        let feeder = Feeder::new(&queue);
        let room = feeder.room(rows.try_into().unwrap()).await;
        feeder.rows(room, (0..rows).map(row).collect()).await;
        (queue, feeder)
    }

    async fn take(queue: &Queue) -> VecDeque<Row> {
        match queue.take().await {
            Some(Work::Rows(rows)) => rows.into(),
            _ => panic!("there are rows"),
        }
    }

    fn numbers(rows: &VecDeque<Row>) -> Vec<u128> {
        rows.iter().map(|row| row.lease.id.as_u128()).collect()
    }

    #[tokio::test]
    async fn slow_rows_are_shared_and_quick_ones_are_not() {
        let (queue, _feeder) = filled(100).await;
        assert_eq!(take(&queue).await.len(), 25);

        let (queue, _feeder) = filled(250).await;
        queue.pace.note(100, Duration::from_millis(1));
        assert_eq!(take(&queue).await.len(), 100);
    }

    #[tokio::test]
    async fn rows_that_are_put_back_come_first_and_are_shared() {
        let (queue, feeder) = filled(200).await;
        queue.pace.note(100, Duration::from_millis(1));
        let mut rows = take(&queue).await;
        assert_eq!(rows.len(), 100);

        queue.put_back(rows.split_off(40));
        let next = take(&queue).await;

        assert_eq!(numbers(&next), (40..80).collect::<Vec<_>>());
        // Their room was given back when they were taken first.
        let all = 100 * BATCHES;
        assert_eq!(queue.room.available_permits(), all - 100);
        while queue.room.available_permits() < all {
            take(&queue).await;
        }
        drop(feeder);
        assert!(queue.take().await.is_none());
    }
}
