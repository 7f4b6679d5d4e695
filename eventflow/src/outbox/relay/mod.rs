//! The relay: publishes what is committed in the outbox.
//!
//! One relay at a time holds the table's lease (`lease`) and has a session: it fetches what is due,
//! publishes it (`publishing`, `sending` for one batch, and `doubts` for what was not taken), and marks it with the next fetch. Beside that
//! it extends the lease, hears of commits in other processes (`listening`) and deletes what is done with
//! (`retention`). Others stand by. What a [`RelayHandle`] shows is gathered in `vitals`.
//!
//! # Order and loss
//! - A row is marked only after the broker has answered for it, so none is lost: what was sent and not
//!   marked is sent again, with the same event id.
//! - A batch is what is pending with the lowest ids, and the next one is sent after the broker has
//!   answered for it. A sink publishes the first of a batch before the last, or not the last. So whoever
//!   sends an event has sent those of its aggregate before it that were not at the broker yet. This
//!   holds without the lease too: two relays that send the same rows interleave two runs of one order, and
//!   whatever comes first in both comes first in the stream. The lease only saves the duplicates.
//! - So a relay that stood still beyond its lease may send a batch once more. Before each batch it looks
//!   at the clock, and it asks for its term when the lease may be over. What it marks is true; when the term
//!   is over, the statement that marks does nothing.
//! - Nothing remembers up to where was published. An event whose transaction commits late is pending
//!   then, and is found by that. Two transactions that write events of one aggregate at the same time, without
//!   a lock between them, have no order; with a lock on the aggregate's row they have that of their
//!   commits.
//! - Delayed events are in no order with others. While both wait, each has half of a batch.
//! - After a dead letter, its aggregate's next events go on.
//!
//! # What the broker does not take
//! - An event is a dead letter if the error says that it is to blame, by its kind (`sending`).
//! - Any other error may be about the key, the user or the server: a wrong type, a missing permission, a full
//!   memory. It makes no dead letter, however long it lasts. The event waits with its whole aggregate, others
//!   go on, and then it is tried again (`doubts`). Meanwhile the broker counts as unreachable, the failures
//!   are counted, and the log has the first one. After an outage, events of other aggregates may
//!   so come first.
//! - Only a connection that breaks may be either's fault: a server closes it on what is too large. An event
//!   whose connection breaks three times within no less than 5 s, each time while the next event is
//!   taken, is a dead letter. Until there are others, it waits.
//! - Behind an event that waits, up to 10,000 rows of its aggregate are passed over. Beyond that, the events
//!   that were written later by others wait too.
//!
//! A server that has lost an entry it had answered for (a failover to a replica that lagged) is not asked
//! again.

mod builder;
mod doubts;
mod handle;
mod lease;
mod listening;
mod publishing;
mod report;
mod retention;
mod sending;
mod settings;
mod vitals;

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use self::{
    builder::RelayBuilder,
    handle::{RelayHandle, RelayHealth, RelayPhase},
    report::RelayReport,
};
use self::{
    lease::Held,
    publishing::{Publishing, Step},
    report::Counters,
    settings::Settings,
    vitals::{Started, Vitals},
};
use super::OutboxTable;
use crate::{
    consumer::Outage,
    error::{Error, ErrorKind, Result},
    stream::Sink,
};

/// Publishes the events of an outbox.
///
/// Any number may run, on any machines: one at a time publishes, the others stand by. At-least-once, in
/// order for each aggregate: an event that is published again has the id that it had, by which a
/// consumer's inbox knows it.
///
/// # Examples
/// ```no_run
/// # #[cfg(all(feature = "postgres", feature = "redis"))] {
/// use eventflow::{outbox::PgOutbox, prelude::*};
///
/// # async fn run() -> eventflow::Result<()> {
/// let outbox = PgOutbox::connect("postgres://localhost/shop").await?;
/// outbox.migrate().await?;
/// let stream = RedisStream::builder("redis://localhost").stream("orders").connect().await?;
///
/// let report = Relay::builder(outbox, stream)
///     .build()?
///     .run_until(async { _ = tokio::signal::ctrl_c().await })
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// # }
/// ```
#[must_use = "a relay does nothing until `run_until` or `drain`"]
pub struct Relay<T, K> {
    engine: Arc<Engine<T, K>>,
}

/// What all parts of a relay share.
struct Engine<T, K> {
    outbox: T,
    sink: K,
    settings: Settings,
    /// This relay among those of the table.
    holder: Arc<str>,
    counters: Arc<Counters>,
    vitals: Arc<Vitals>,
    stopping: CancellationToken,
}

impl<T: OutboxTable, K: Sink + 'static> Relay<T, K> {
    /// Starts a relay of `outbox` that publishes to `sink`.
    pub fn builder(outbox: T, sink: K) -> RelayBuilder<T, K> {
        RelayBuilder::new(outbox, sink)
    }

    /// A view of this relay that stays when it runs: its health and its counts.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        RelayHandle {
            counters: Arc::clone(&self.engine.counters),
            vitals: Arc::clone(&self.engine.vitals),
        }
    }

    /// Publishes until `shutdown` completes, then stops gracefully and answers what was counted.
    ///
    /// Stopping: what is on its way to the broker has the grace period (25 s unless set) to be answered and
    /// is marked; another relay can take over at once.
    ///
    /// A server that does not answer, at the start or later, is waited for. A broker that refuses every
    /// event is, too: that is no event's fault.
    ///
    /// # Errors
    /// - At the start: if the outbox's table is missing or misses columns.
    /// - Later: only if the sink panics.
    ///
    /// # Cancel safety
    /// Dropping the future stops the relay as `shutdown` does, in the background, with nobody waiting for
    /// it. Nothing is lost.
    pub async fn run_until<F: Future>(self, shutdown: F) -> Result<RelayReport> {
        let engine = &self.engine;
        let started = Started(Arc::clone(&engine.vitals));
        let stop = engine.stopping.clone().drop_guard();
        tokio::pin!(shutdown);
        tokio::select! {
            // First: one that waits for a signal is to have set its handler before anything begins.
            biased;
            _ = &mut shutdown => return Ok(engine.counters.report()),
            ready = self.start() => ready?,
        }
        // In a task of its own: it stops gracefully also if this future is dropped.
        let mut running = tokio::spawn(run(Arc::clone(engine), started));
        let ended = tokio::select! {
            ended = &mut running => ended,
            _ = shutdown => {
                drop(stop);
                running.await
            }
        };
        ended.map_err(|error| {
            let message = "the relay's task ended early; nothing is lost, start it again";
            Error::new(ErrorKind::Outbox, message).with_source(error)
        })?;
        Ok(engine.counters.report())
    }

    /// Waits for a database that does not answer.
    async fn start(&self) -> Result<()> {
        let engine = &self.engine;
        let mut outage = Outage::new("opening the outbox", &engine.vitals.database);
        while let Err(error) = engine.outbox.check_schema().await {
            engine.counters.table_failures.one();
            outage.wait_out(error).await?;
        }
        Ok(())
    }

    /// Publishes what is due, and returns what was counted: for tests and for one-shot jobs.
    ///
    /// Waits for as long as a lease lasts if another relay has it: that one may have died.
    ///
    /// # Errors
    /// If a server does not answer or refuses, unlike [`run_until`](Self::run_until); a transient one if
    /// another relay publishes this table's events.
    ///
    /// # Cancel safety
    /// Nothing is lost. What was sent and not marked is sent again; another relay waits until the lease
    /// has lapsed.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(all(feature = "macros", feature = "sqlite"))] {
    /// use eventflow::{outbox::Outbox, prelude::*};
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// struct OrderPaid {}
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = SqliteInbox::in_memory().await?;
    /// let outbox = inbox.outbox();
    /// outbox.migrate().await?;
    /// let mut transaction = inbox.pool().begin().await?;
    /// Outbox::new(&mut transaction).publish(&OrderPaid {}).await?;
    /// transaction.commit().await?;
    ///
    /// let report = Relay::builder(outbox, MemoryStream::new("orders")).build()?.drain().await?;
    ///
    /// assert_eq!(report.published, 1);
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub async fn drain(&self) -> Result<RelayReport> {
        // It is large, and nothing beside what it waits for.
        Box::pin(self.publish_what_is_due()).await
    }

    async fn publish_what_is_due(&self) -> Result<RelayReport> {
        let engine = &*self.engine;
        let before = engine.counters.report();
        engine.outbox.check_schema().await?;
        let held = lease::acquire_soon(engine).await?;
        let ended = CancellationToken::new();
        let draining = async {
            let mut publishing = Publishing::new(engine, &held);
            let drained = loop {
                match publishing.step().await {
                    Ok(Step::Published) => {}
                    Ok(Step::Idle(_)) => break Ok(()),
                    Ok(Step::Lost) => break Err(lease::taken()),
                    Err(failed) => break Err(failed.into()),
                }
            };
            publishing.finish().await;
            ended.cancel();
            drained
        };
        let (drained, ()) = tokio::join!(draining, lease::extend(engine, &held, &ended));
        lease::release(engine, &held).await;
        drained.map(|()| engine.counters.report().since(&before))
    }
}

/// Publishes, or stands by, until the relay stops.
async fn run<T: OutboxTable, K: Sink>(engine: Arc<Engine<T, K>>, _started: Started) {
    let engine = &*engine;
    tracing::info!(holder = &*engine.holder, "relay started");
    while let Some(held) = lease::acquire(engine).await {
        engine.vitals.enter(RelayPhase::Publishing);
        tracing::info!(
            holder = &*engine.holder,
            term = held.term.number,
            "relay publishes"
        );
        session(engine, &held).await;
        lease::release(engine, &held).await;
    }
    tracing::info!(holder = &*engine.holder, "relay stopped");
}

/// All that is done while the lease is held: until it is lost, or the relay stops.
async fn session<T: OutboxTable, K: Sink>(engine: &Engine<T, K>, held: &Held) {
    let ended = CancellationToken::new();
    let publishing = async {
        publishing::publish(engine, held).await;
        ended.cancel();
    };
    tokio::join!(
        publishing,
        lease::extend(engine, held, &ended),
        ended.run_until_cancelled(retention::purge(engine, held)),
        ended.run_until_cancelled(listening::listen(&engine.outbox)),
    );
}

impl<T, K> fmt::Debug for Relay<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("settings", &self.engine.settings)
            .finish_non_exhaustive()
    }
}
