//! Handles everything that waits, and returns: for tests of services and for one-shot jobs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Consumer, Report,
    due::claim_batch,
    lanes::{acknowledge, entries_of, note_trimmed},
    late::acknowledge_all,
    lease,
    reader::{self, Reading},
    recovery,
    storing::{Storing, store},
    worker::{run, run_fresh},
};
use crate::{
    error::Result,
    inbox::{Admission, Due, Inbox, Row},
    stream::{Batch, Source},
};

impl<Src: Source, I: Inbox> Consumer<Src, I> {
    /// Handles everything that waits in the stream and every row that is due, and answers what was
    /// counted.
    ///
    /// An event that is retried for ever (`max_retries` 0 or less) runs once; so does one that was
    /// handed back.
    ///
    /// Of an ordered consumer one process reads. A drain waits until it is the one, for as long as the
    /// lease of a process that has died may last.
    ///
    /// # Errors
    /// If the stream or the inbox cannot be read: unlike a service, a drain does not wait for a
    /// server that does not answer, unless it has something to store or to acknowledge. A transient
    /// one if the consumer is ordered, and another process still reads.
    ///
    /// # Cancel safety
    /// Nothing is lost: what has begun runs on in the background, for as long as its lease lasts;
    /// everything else runs when its lease has lapsed.
    ///
    /// # Examples
    /// A test of a service, with no server:
    /// ```
    /// # #[cfg(all(feature = "macros", feature = "sqlite"))] {
    /// use eventflow::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// struct OrderPaid {
    ///     #[event(aggregate_id)]
    ///     order_id: Uuid,
    /// }
    ///
    /// #[derive(EventSet)]
    /// enum OrderEvents {
    ///     Paid(OrderPaid),
    /// }
    ///
    /// #[handler]
    /// async fn send_receipt(event: OrderPaid) -> Result<(), Failure> {
    ///     println!("receipt for {}", event.order_id);
    ///     Ok(())
    /// }
    ///
    /// #[router(events = OrderEvents, handlers(send_receipt))]
    /// struct Orders;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eventflow::Result<()> {
    /// let inbox = SqliteInbox::in_memory().await?;
    /// inbox.migrate().await?;
    /// let stream = MemoryStream::new("orders").group("receipts");
    /// let consumer = Consumer::builder(stream.clone(), inbox, Orders::new(())).build()?;
    ///
    /// stream.publish(&OrderPaid { order_id: Uuid::now_v7() }).await?;
    /// let report = consumer.drain().await?;
    ///
    /// assert_eq!(report.processed, 1);
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub async fn drain(&self) -> Result<Report> {
        self.drain_rows(Due::Now).await
    }

    /// As [`drain`](Self::drain), and also runs rows that are scheduled for later, until each is
    /// done or a dead letter.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    ///
    /// # Cancel safety
    /// As [`drain`](Self::drain).
    pub async fn drain_scheduled(&self) -> Result<Report> {
        self.drain_rows(Due::Later).await
    }

    async fn drain_rows(&self, due: Due) -> Result<Report> {
        let engine = &self.engine;
        let before = engine.counters.report();
        self.open().await?;
        let leases_done = CancellationToken::new();
        let _stop_extending = leases_done.clone().drop_guard();
        tokio::spawn(lease::extend(Arc::clone(engine), leases_done));

        let mut seen = Seen::default();
        let drained = self.drain_until_empty(due, &mut seen).await;
        for row in seen.aside {
            engine.put_back(vec![row.lease], row.due_in).await;
        }
        drained?;
        Ok(engine.counters.report().since(&before))
    }

    async fn drain_until_empty(&self, due: Due, seen: &mut Seen) -> Result<()> {
        loop {
            let entries = self.drain_entries(seen).await?;
            let claimed = self.claim(due, seen).await?;
            let recovered = recovery::recover_one(&self.engine).await?;
            if !entries && !claimed && !recovered {
                return Ok(());
            }
        }
    }

    /// Handles one batch of the stream; `false` if there was none.
    async fn drain_entries(&self, seen: &mut Seen) -> Result<bool> {
        let engine = &self.engine;
        if engine.settings.order.is_some() {
            return self.drain_in_order(seen).await;
        }
        let count = engine.settings.batch_size;
        let mut batch = engine.source.read(count, None).await?;
        if batch.is_empty() {
            batch = engine
                .source
                .claim(engine.settings.claim_idle, count)
                .await?;
            engine.counters.claimed.add_len(batch.entries.len());
        }
        if batch == Batch::default() {
            return Ok(false);
        }
        if engine.is_inline() && !batch.redelivered {
            let rows = run_fresh(engine, batch).await;
            acknowledge_all(engine).await;
            seen.failed_runs.extend(rows.into_iter().map(|id| (id, 0)));
            return Ok(true);
        }
        note_trimmed(engine, &batch);
        let entries = entries_of(&batch);
        let mut storing = Storing::new(engine, &batch.entries, &Admission::Run);
        let Some(rows) = store(engine, &mut storing).await else {
            return Ok(false);
        };
        acknowledge(engine, &entries).await;
        seen.add(&rows);
        self.run_all(rows).await;
        Ok(true)
    }

    /// Handles one batch of the stream as its only reader; `false` if there was none.
    async fn drain_in_order(&self, seen: &mut Seen) -> Result<bool> {
        let engine = &self.engine;
        let reading = reader::acquire_soon(engine).await?;
        let stored = self.store_next(&reading).await;
        let released = engine.inbox.release_reading(&engine.holder, &reading.lease);
        released.await?;
        let Some(rows) = stored? else {
            return Ok(false);
        };
        seen.add(&rows);
        self.run_all(rows).await;
        Ok(true)
    }

    /// Stores the next entries of the stream, in order; `None` if there are none.
    async fn store_next(&self, reading: &Reading) -> Result<Option<Vec<Row>>> {
        let engine = &self.engine;
        let count = engine.settings.batch_size;
        // So that a claim begins with the first entry.
        engine.source.open().await?;
        let mut has_lost = false;
        if !engine.source.others_have_pending().await? {
            // What it gives is pending from then on, and is claimed with what was before; but a claim of
            // Redis 6.2 does not name what was trimmed.
            let mut read = engine.source.read(count, None).await?;
            read.entries.clear();
            has_lost = !read.is_empty();
            note_trimmed(engine, &read);
            acknowledge(engine, &read.trimmed).await;
        }
        let batch = engine.source.claim(Duration::ZERO, count).await?;
        if batch.is_empty() {
            return Ok(has_lost.then(Vec::new));
        }
        note_trimmed(engine, &batch);
        let entries = entries_of(&batch);
        let storing = Storing::new(engine, &batch.entries, &Admission::Run);
        let rows = store(engine, &mut storing.read_by(Some(reading))).await;
        if rows.is_some() {
            acknowledge(engine, &entries).await;
        }
        Ok(rows)
    }

    /// Handles one batch of waiting rows; `false` if there was none.
    async fn claim(&self, due: Due, seen: &mut Seen) -> Result<bool> {
        let engine = &self.engine;
        let rows = claim_batch(engine, due).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        engine.held.add(&rows);
        self.run_all(seen.put_aside(rows)).await;
        Ok(true)
    }

    async fn run_all(&self, rows: Vec<Row>) {
        let shares = rows.chunks(rows.len().div_ceil(self.engine.sharing()).max(1));
        join_all(shares.map(|share| run(&self.engine, share.to_vec()))).await;
    }
}

/// What this drain has run already, so that it comes to an end.
#[derive(Default)]
struct Seen {
    failed_runs: HashMap<Uuid, i32>,
    aside: Vec<Row>,
}

impl Seen {
    fn add(&mut self, rows: &[Row]) {
        let failed_runs = rows.iter().map(|row| (row.lease.id, row.retry_count));
        self.failed_runs.extend(failed_runs);
    }

    /// Keeps back what has had its run, and answers the rest.
    fn put_aside(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let (run, aside): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| self.is_new(row));
        self.aside.extend(aside);
        run
    }

    /// Whether running the row once more leads on: it failed since, and has a last run.
    fn is_new(&mut self, row: &Row) -> bool {
        match self.failed_runs.insert(row.lease.id, row.retry_count) {
            None => true,
            Some(before) => row.max_retries > 0 && row.retry_count > before,
        }
    }
}
