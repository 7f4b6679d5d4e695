//! Fetches, publishes and marks, while the lease is held.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Engine,
    doubts::Doubts,
    lease::{self, Held},
    sending::{self, Sent},
};
use crate::{
    consumer::Outage,
    error::{Error, chain},
    fail_point::{self, Point},
    outbox::{Demand, Fetched, Marks, OutboxTable, Pending},
    stream::Sink,
};

/// What one step has done.
#[derive(Debug)]
pub(super) enum Step {
    /// A batch was sent; there may be more.
    Published,
    /// Nothing is due, and everything is marked. The next delayed event is due after this time.
    Idle(Option<Duration>),
    /// Another relay has the lease.
    Lost,
}

/// Which server a step has failed at; it is to be repeated.
#[derive(Debug)]
pub(super) enum Failed {
    Table(Error),
    Broker(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Table(error) | Failed::Broker(error) => error,
        }
    }
}

/// Publishes until the lease is lost or the relay stops.
pub(super) async fn publish<T: OutboxTable, K: Sink>(engine: &Engine<T, K>, held: &Held) {
    let mut publishing = Publishing::new(engine, held);
    let in_time = async {
        engine.stopping.cancelled().await;
        tokio::time::sleep(engine.settings.grace).await;
    };
    tokio::select! {
        () = publishing.run() => {}
        () = in_time => tracing::warn!(
            grace = ?engine.settings.grace,
            "the broker has not answered within the grace period; what was sent is published again"
        ),
    }
}

/// One session's events on their way.
pub(super) struct Publishing<'r, T, K> {
    engine: &'r Engine<T, K>,
    held: &'r Held,
    woken: watch::Receiver<()>,
    /// What is sent next.
    events: Vec<Pending>,
    /// What the broker has answered for and the table does not say yet.
    marks: Arc<Marks>,
    doubts: Doubts,
    /// The last batch failed.
    is_careful: bool,
}

impl<'r, T: OutboxTable, K: Sink> Publishing<'r, T, K> {
    pub(super) fn new(engine: &'r Engine<T, K>, held: &'r Held) -> Self {
        Self {
            engine,
            held,
            woken: engine.outbox.woken(),
            events: Vec::new(),
            marks: Arc::default(),
            doubts: Doubts::default(),
            is_careful: false,
        }
    }

    async fn run(&mut self) {
        let engine = self.engine;
        let mut table = Outage::new("reading and marking the outbox", &engine.vitals.database);
        let mut broker = Outage::new("publishing the outbox's events", &engine.vitals.broker);
        while !engine.stopping.is_cancelled() {
            match self.step().await {
                Ok(Step::Lost) => return,
                Ok(done) => {
                    table.over();
                    // While some wait, the outage is not over.
                    if self.doubts.is_empty() {
                        broker.over();
                    }
                    if let Step::Idle(next_due) = done {
                        self.rest(next_due).await;
                    }
                }
                Err(Failed::Table(error)) => {
                    table.wait_unless(&engine.stopping, &error).await;
                }
                Err(Failed::Broker(error)) => {
                    table.over();
                    broker.wait_unless(&engine.stopping, &error).await;
                }
            }
        }
        self.finish().await;
    }

    /// Sends what was fetched; beside that, marks what was sent before and fetches what comes after it.
    pub(super) async fn step(&mut self) -> Result<Step, Failed> {
        self.woken.borrow_and_update();
        if !self.held.is_certain() {
            // Another relay may have sent these, and later ones.
            self.events.clear();
            match lease::extend_once(self.engine, self.held).await {
                Ok(true) => {}
                Ok(false) => return Ok(Step::Lost),
                Err(error) => return Err(Failed::Table(error)),
            }
        }
        if self.doubts.is_round_over() {
            // Among these may be later ones of the aggregates that are tried again.
            self.events.clear();
        }
        if self.events.is_empty() {
            let Some(fetched) = self.fetch().await? else {
                return Ok(Step::Lost);
            };
            self.events = fetched.events;
            if self.events.is_empty() {
                return Ok(Step::Idle(fetched.next_due));
            }
        }
        let sending = std::mem::take(&mut self.events);
        let (sent, next) = self.send_and_advance(&sending).await;
        self.note(sent.marks);
        self.is_careful = sent.failure.is_some();
        let next = next?;
        if let Some(error) = sent.failure {
            self.engine.counters.send_failures.one();
            return Err(Failed::Broker(error));
        }
        match next {
            None => Ok(Step::Lost),
            Some(fetched) => {
                self.events = self.doubts.admit(fetched.events);
                Ok(Step::Published)
            }
        }
    }

    /// Fetches what may be sent: nothing if nothing is due, and `None` if the term is over.
    async fn fetch(&mut self) -> Result<Option<Fetched>, Failed> {
        loop {
            if self.doubts.is_round_over() {
                self.doubts.begin_round();
            }
            let events = self.engine.settings.batch_size;
            let left_out = self.doubts.left_out().to_vec();
            let Some(mut fetched) = self.advance(left_out, events).await? else {
                return Ok(None);
            };
            let was_last = fetched.events.is_empty();
            fetched.events = self.doubts.admit(fetched.events);
            if !fetched.events.is_empty() {
                return Ok(Some(fetched));
            }
            if was_last && self.doubts.is_empty() {
                self.engine.vitals.note_lag(Duration::ZERO);
                return Ok(Some(fetched));
            }
            if was_last {
                self.doubts.begin_round();
            }
        }
    }

    /// Sends events, and asks the table meanwhile if there is anything to ask.
    async fn send_and_advance(
        &mut self,
        sending: &[Pending],
    ) -> (Sent, Result<Option<Fetched>, Failed>) {
        let engine = self.engine;
        let batch_size = engine.settings.batch_size;
        let may_be_more = sending.len() >= usize::try_from(batch_size / 2).unwrap_or(usize::MAX);
        let mut doubts = std::mem::take(&mut self.doubts);
        let rows = sending.iter().map(|event| event.id);
        let besides = doubts.left_out().iter().copied().chain(rows).collect();
        let on_the_way = sending::send(engine, sending, self.is_careful, &mut doubts);
        let answers = if self.marks.is_empty() && !may_be_more {
            (on_the_way.await, Ok(Some(Fetched::default())))
        } else {
            tokio::join!(on_the_way, self.advance(besides, batch_size))
        };
        self.doubts = doubts;
        answers
    }

    /// Marks what the broker has answered for, and fetches up to so many events besides these. `None` if
    /// the term is over.
    async fn advance(&mut self, besides: Vec<i64>, events: u32) -> Result<Option<Fetched>, Failed> {
        let engine = self.engine;
        let demand = Demand { events, besides };
        let asked = engine.outbox.advance(
            &self.held.term,
            Arc::clone(&self.marks),
            engine.settings.deletes_published,
            demand,
        );
        let fetched = engine.vitals.database.ask(asked).await;
        let fetched = fetched
            .inspect_err(|_| engine.counters.table_failures.one())
            .map_err(Failed::Table)?;
        let Some(fetched) = fetched else {
            lease::lose(engine, self.held);
            return Ok(None);
        };
        let marks = std::mem::take(&mut self.marks);
        engine.counters.dead_lettered.add_len(marks.refused.len());
        for (row, reason) in &marks.refused {
            tracing::warn!(
                row,
                reason,
                "the broker refuses an event; it is a dead letter of the outbox"
            );
        }
        if !marks.is_empty() {
            let reached = fail_point::reach(Point::AfterMark).await;
            reached.map_err(Failed::Table)?;
        }
        if let Some(waited) = fetched.events.iter().map(|event| event.waited).max() {
            engine.vitals.note_lag(waited.max(self.doubts.lag()));
        }
        Ok(Some(fetched))
    }

    /// Adds to what is to be marked.
    fn note(&mut self, sent: Marks) {
        let marks = Arc::make_mut(&mut self.marks);
        marks.published.extend(sent.published);
        marks.refused.extend(sent.refused);
    }

    /// Waits until something may be due, or the session ends.
    async fn rest(&mut self, next_due: Option<Duration>) {
        let poll = self.engine.settings.poll_interval;
        let pause = next_due.map_or(poll, |next_due| next_due.min(poll));
        tokio::select! {
            Ok(()) = self.woken.changed() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.engine.stopping.cancelled() => {}
            () = self.held.lost.cancelled() => {}
        }
    }

    /// Marks what is still to be marked, as far as that can be done at once.
    pub(super) async fn finish(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        if let Err(failed) = self.advance(Vec::new(), 0).await {
            let error = chain(&Error::from(failed));
            tracing::warn!(
                error,
                "what was published could not be marked; it is published again"
            );
        }
    }
}
