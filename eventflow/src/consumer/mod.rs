//! The consumer: takes events from a stream through the inbox to a service.
//!
//! Data flows one way. `ingest` reads the stream, as `intake` decides what new events are to become;
//! `lanes` stores batches (`storing`) and acknowledges them (`late`, if that has to wait); in order, one
//! process reads (`reader`). `due` claims
//! rows whose time has come. What is for this process waits in the `queue`; a `worker` takes a share of
//! it and runs it as its route says, in a `unit` of work, `concurrent`ly, or `inline`. `recovery` runs
//! rows of workers that died; `lease` keeps what this process holds, and `watchdog` sees what never
//! yields; `retention` deletes what is done; `maintenance` is the stream's; `parked` releases what was left for this deploy. What a
//! [`ConsumerHandle`] shows of them is gathered in `vitals`.
//!
//! The states of a row are [`inbox`](crate::inbox)'s part, the choice of a handler
//! [`router`](mod@crate::router)'s.

mod arrival;
mod attempt;
mod builder;
mod calls;
mod concurrent;
mod conflict;
mod contact;
mod dispatcher;
mod drain;
mod due;
mod engine;
mod handle;
mod health;
mod held;
mod ingest;
mod inline;
mod intake;
mod lanes;
mod late;
mod lease;
mod maintenance;
mod optimism;
mod outage;
mod outcome;
mod pace;
mod parked;
mod queue;
mod reader;
mod recovery;
mod report;
mod retention;
mod settings;
mod storing;
mod unit;
mod vitals;
mod watchdog;
mod worker;

use std::{fmt, sync::Arc, time::Duration};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::Service;

pub use self::{
    builder::ConsumerBuilder,
    handle::ConsumerHandle,
    health::{Health, LoopHealth, Phase, StuckCall},
    report::Report,
    settings::UnknownEvents,
};
pub(crate) use self::{contact::Contact, outage::Outage, report::Counter};
use self::{
    engine::Engine,
    queue::{Feeder, Queue},
    vitals::Started,
};
use crate::{
    delivery::Delivery,
    error::{Error, ErrorKind, Result},
    inbox::Inbox,
    router::Reply,
    stream::Source,
};

/// How long after the grace period running calls have to notice that they are cut: longer than a
/// layer may keep the transaction.
const LAST_WAIT: Duration = Duration::from_secs(7);

/// Takes events from a stream, stores each once, and runs a service on them.
///
/// The service is a router made by `#[router]`, with any tower layers around it, or a plain tower
/// service that answers `()`.
///
/// # Delivery
/// At-least-once delivery, and effects exactly once for everything that the handler writes through
/// its transaction. Effects elsewhere need an idempotency key: the event id.
///
/// # Examples
/// ```no_run
/// # #[cfg(all(feature = "macros", feature = "postgres", feature = "redis"))] {
/// use eventflow::prelude::*;
/// # #[derive(Serialize, Deserialize, Event)]
/// # struct OrderPaid {}
/// # #[derive(EventSet)]
/// # enum OrderEvents { Paid(OrderPaid) }
/// # #[handler]
/// # async fn charge_card(_event: OrderPaid, _tx: &mut PgConnection) {}
/// # #[router(events = OrderEvents, handlers(charge_card))]
/// # struct Orders;
///
/// # async fn run() -> eventflow::Result<()> {
/// let inbox = PgInbox::connect("postgres://localhost/shop").await?;
/// inbox.migrate().await?;
/// let stream = RedisStream::builder("redis://localhost")
///     .stream("orders")
///     .group("billing")
///     .connect()
///     .await?;
///
/// let report = Consumer::builder(stream, inbox, Orders::new(()))
///     .layer(TraceLayer::new())
///     .workers(4)
///     .build()?
///     .run_until(async { _ = tokio::signal::ctrl_c().await })
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// # }
/// ```
#[must_use = "a consumer does nothing until `run_until` or `drain`"]
pub struct Consumer<Src, I: Inbox> {
    engine: Arc<Engine<Src, I>>,
}

impl<Src: Source, I: Inbox> Consumer<Src, I> {
    /// Starts a consumer of `stream` that stores in `inbox` and runs `service`.
    pub fn builder<S>(stream: Src, inbox: I, service: S) -> ConsumerBuilder<Src, I, S>
    where
        S: Service<Delivery<I>>,
        S::Response: Reply,
    {
        ConsumerBuilder::new(stream, inbox, service)
    }

    /// A view of this consumer that stays when it runs: its health and its counts.
    #[must_use]
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle {
            counters: Arc::clone(&self.engine.counters),
            vitals: Arc::clone(&self.engine.vitals),
        }
    }

    /// Runs until `shutdown` completes, then stops gracefully and answers what was counted.
    ///
    /// Stopping: no more is read; handlers that run have the grace period (25 s unless set) to
    /// finish; what has not begun is handed back with no attempt counted. A handler that is not
    /// done by then is cut, its writes are taken back, and its event runs again elsewhere.
    ///
    /// A server that does not answer, at the start or later, is waited for.
    ///
    /// # Errors
    /// - At the start: if the inbox's table is missing or misses columns, if the stream is refused
    ///   for good (credentials, a key of another type), or if the consumer is ordered and the database
    ///   refuses it what beside the table keeps the order: the leases and the positions.
    /// - Later: only if a task of the consumer panics, in a source or layer of the user's.
    ///
    /// # Cancel safety
    /// Dropping the future stops the consumer as `shutdown` does, in the background, with nobody
    /// waiting for it. Nothing is lost.
    pub async fn run_until<F: Future>(self, shutdown: F) -> Result<Report> {
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
        // In a task of its own: it sees the loops end also if this future is dropped.
        let mut running = tokio::spawn(supervise(Arc::clone(engine), started));
        let ended = tokio::select! {
            ended = &mut running => ended,
            _ = shutdown => {
                drop(stop);
                running.await
            }
        };
        ended.unwrap_or_else(|error| Err(ended_early(error)))?;
        Ok(engine.counters.report())
    }

    /// Prepares the stream's group and the inbox, waiting for servers that do not answer.
    async fn start(&self) -> Result<()> {
        let engine = &self.engine;
        let (broker, database) = (&engine.vitals.broker, &engine.vitals.database);
        let mut outage = Outage::new("opening the stream", broker);
        while let Err(error) = engine.source.open().await {
            outage.wait_out(error).await?;
        }
        let mut outage = Outage::new("opening the inbox", database);
        while let Err(error) = engine.inbox.check_schema().await {
            outage.wait_out(error).await?;
        }
        let mut outage = Outage::new("opening the outbox", database);
        while let Err(error) = self.check_outbox().await {
            outage.wait_out(error).await?;
        }
        let mut outage = Outage::new("trying the right to read", database);
        while let Err(error) = reader::check(engine).await {
            outage.wait_out(error).await?;
        }
        let mut outage = Outage::new("releasing rows left for this deploy", database);
        while let Err(error) = parked::unpark(engine).await {
            outage.wait_out(error).await?;
        }
        Ok(())
    }

    /// Looks for the outbox's table if handlers publish.
    async fn check_outbox(&self) -> Result<()> {
        let engine = &self.engine;
        if engine.dispatcher.publishes() {
            engine.inbox.check_outbox(&engine.outbox).await?;
        }
        Ok(())
    }

    /// As [`start`](Self::start), and fails at once if a server does not answer.
    async fn open(&self) -> Result<()> {
        let engine = &self.engine;
        engine.source.open().await?;
        engine.inbox.check_schema().await?;
        self.check_outbox().await?;
        reader::check(engine).await?;
        parked::unpark(engine).await
    }
}

/// Runs the loops until the consumer stops, and sees them end.
///
/// A loop that panics stops the consumer: one that only looks alive would be worse.
async fn supervise<Src: Source, I: Inbox>(
    engine: Arc<Engine<Src, I>>,
    _started: Started,
) -> Result<()> {
    let _watched = watchdog::watch(&engine)?;
    let leases_done = CancellationToken::new();
    let extending = lease::extend(Arc::clone(&engine), leases_done.clone());
    let mut leases = tokio::spawn(alive(&engine, "lease", extending));
    let mut loops = spawn_loops(&engine);
    engine.vitals.enter(Phase::Running);
    tracing::info!(
        consumer = engine.holder.consumer,
        holder = engine.holder.name,
        workers = engine.settings.workers,
        "consumer started"
    );

    let ended = tokio::select! {
        () = engine.stopping.cancelled() => Ok(()),
        error = first_panic(&mut loops) => Err(error),
        // It only ends by a panic: it was not told to.
        ended = &mut leases => ended,
    };

    tracing::info!(consumer = engine.holder.consumer, "consumer stops");
    engine.stopping.cancel();
    engine.vitals.enter(Phase::Draining);
    engine.source.interrupt().await;
    let ended = ended.and(wait_for(&engine, &mut loops).await);
    leases_done.cancel();
    let ended = if leases.is_finished() {
        ended
    } else {
        ended.and(leases.await)
    };
    ended.map_err(ended_early)
}

fn spawn_loops<Src: Source, I: Inbox>(engine: &Arc<Engine<Src, I>>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let queue = Queue::new(engine.settings.batch_size, engine.sharing());
    let queue = Arc::new(queue);
    let feeder = Feeder::new(&queue);
    let shared = || Arc::clone(engine);
    for _ in 0..engine.settings.workers {
        let working = worker::work(shared(), Arc::clone(&queue));
        loops.spawn(alive(engine, "worker", working));
    }
    if engine.settings.order.is_some() {
        let reading = reader::read_alone(shared(), feeder.clone());
        loops.spawn(alive(engine, "read", reading));
    } else {
        let reading = ingest::read(shared(), feeder.clone());
        loops.spawn(alive(engine, "read", reading));
        let taking_over = ingest::take_over(shared(), feeder.clone());
        loops.spawn(alive(engine, "take over", taking_over));
    }
    let late = late::acknowledge_late(shared());
    loops.spawn(alive(engine, "acknowledge", late));
    loops.spawn(alive(engine, "due", due::claim(shared(), feeder)));
    loops.spawn(alive(engine, "recovery", recovery::recover(shared())));
    loops.spawn(alive(engine, "retention", retention::purge(shared())));
    let maintaining = maintenance::maintain(shared());
    loops.spawn(alive(engine, "maintenance", maintaining));
    loops.spawn(alive(engine, "parked", parked::release(shared())));
    loops
}

/// Makes a loop one whose end the consumer's handle shows.
fn alive<Src, I: Inbox, F: Future<Output = ()>>(
    engine: &Engine<Src, I>,
    name: &'static str,
    turning: F,
) -> impl Future<Output = ()> + use<Src, I, F> {
    let vitals = Arc::clone(&engine.vitals);
    async move { vitals.alive(name, turning).await }
}

async fn first_panic(loops: &mut JoinSet<()>) -> JoinError {
    loop {
        match loops.join_next().await {
            Some(Err(error)) => return error,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

fn ended_early(error: JoinError) -> Error {
    Error::new(
        ErrorKind::Consumer,
        "a task of the consumer ended early; nothing is lost, start it again",
    )
    .with_source(error)
}

/// Waits for the loops to end; the error is that of one that has panicked.
async fn wait_for<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    loops: &mut JoinSet<()>,
) -> std::result::Result<(), JoinError> {
    let grace = engine.settings.grace;
    if let Ok(ended) = tokio::time::timeout(grace, all(loops)).await {
        return ended;
    }
    tracing::warn!(
        ?grace,
        "handlers still run after the grace period; cutting them"
    );
    engine.cut.cancel();
    let ended = tokio::time::timeout(LAST_WAIT, all(loops)).await;
    ended.unwrap_or_else(|_| {
        tracing::error!(
            tasks = loops.len(),
            "what runs cannot be cut: handlers block their threads, or the database does not answer; their events run again when their leases have lapsed"
        );
        loops.detach_all();
        Ok(())
    })
}

async fn all(loops: &mut JoinSet<()>) -> std::result::Result<(), JoinError> {
    let mut all = Ok(());
    while let Some(ended) = loops.join_next().await {
        all = all.and(ended);
    }
    all
}

impl<Src, I: Inbox> fmt::Debug for Consumer<Src, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("settings", &self.engine.settings)
            .finish_non_exhaustive()
    }
}
