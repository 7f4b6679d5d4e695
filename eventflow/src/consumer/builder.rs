//! Builds a consumer: its layers, and what can be set.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use uuid::Uuid;

use super::{
    Consumer, UnknownEvents, dispatcher::Dispatcher, engine::Engine, held::Held, intake::Promised,
    late::Late, optimism::Optimism, settings::Settings, vitals::Vitals,
};
use crate::{
    delivery::Delivery,
    error::{BoxError, Result},
    inbox::{
        Demand, Holder, Inbox, Order, OrderPolicy, ReaderLease, backoff::Backoff, name_too_long,
    },
    router::{Reply, Routes},
    stream::Source,
};

/// Connections beside the workers': one for the recovery lane, one for everything short.
pub(super) const CONNECTIONS_BESIDE_WORKERS: u32 = 2;

/// Builds a [`Consumer`]; made by [`Consumer::builder`].
#[must_use = "call `build` to get the consumer"]
pub struct ConsumerBuilder<Src, I: Inbox, S> {
    source: Src,
    inbox: I,
    outbox: I::Outbox,
    service: S,
    routes: Routes,
    settings: Settings,
}

impl<Src, I, S> ConsumerBuilder<Src, I, S>
where
    Src: Source,
    I: Inbox,
{
    pub(super) fn new(source: Src, inbox: I, service: S) -> Self
    where
        S: Service<Delivery<I>>,
        S::Response: Reply,
    {
        let settings = Settings::new(source.group().to_owned());
        Self {
            source,
            outbox: inbox.outbox(),
            inbox,
            service,
            routes: S::Response::routes(),
            settings,
        }
    }

    /// Puts a tower layer around the service; a later one goes outside.
    ///
    /// The consumer has one layered service for all its workers: a limit is the consumer's. What a
    /// layer answers for want of capacity, [`Overloaded`](tower::load_shed::error::Overloaded) or
    /// an error of `poll_ready`, hands the event back with no attempt counted.
    pub fn layer<L: Layer<S>>(self, layer: L) -> ConsumerBuilder<Src, I, L::Service> {
        ConsumerBuilder {
            source: self.source,
            inbox: self.inbox,
            outbox: self.outbox,
            service: layer.layer(self.service),
            routes: self.routes,
            settings: self.settings,
        }
    }

    /// Where handlers publish that take `&mut Outbox`. Default: the table `event_outbox` in the inbox's
    /// schema, [`Inbox::outbox`].
    ///
    /// It must be in the inbox's database: what is published commits with the handler's writes. A relay of
    /// this process wakes at once if it has a clone of this value.
    pub fn outbox(mut self, outbox: I::Outbox) -> Self {
        self.outbox = outbox;
        self
    }

    /// Names the service that owns the rows: column `consumer`. Default: the stream's group.
    ///
    /// Two services on one table need two names, or they drop each other's events as duplicates.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How many entries are read, and rows claimed, at once. Default: 100; 1 to 10 000.
    ///
    /// Six batches may wait in the process. Larger batches cost fewer round trips and more leases
    /// to recover after a crash. After large entries fewer are read at once, about 4 MiB of them; the
    /// first read holds a whole batch in memory, however large its entries are: where producers are
    /// not trusted, the server's `proto-max-bulk-len` limits them.
    pub fn batch_size(mut self, entries: usize) -> Self {
        self.settings.batch_size = entries;
        self
    }

    /// How long one read of the stream waits for entries. Default: 2 s.
    pub fn block(mut self, block: Duration) -> Self {
        self.settings.block = block;
        self
    }

    /// How many units of work run at once. Default: 6. The inbox gets two connections more.
    ///
    /// SQLite has one writer: more workers there only wait.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// Runs fresh events in the transaction that stores them: inserted, handled and settled by one commit,
    /// and acknowledged after it. Default: off; they are stored and acknowledged first.
    ///
    /// For handlers that take a few milliseconds: one row is written per event instead of two, but the
    /// stream is drained only as fast as the handlers are. What a batch is not done with soon goes on as
    /// it does by default, and so does an entry that the stream delivers once more. The guarantee is the
    /// same. See [the modes](crate::modes).
    pub fn inline(mut self) -> Self {
        self.settings.inline = true;
        self
    }

    /// Runs the events of an aggregate one at a time, in the order of their stream. Default: off; they run
    /// side by side.
    ///
    /// Across all workers and processes: those of a consumer's name on one table. Different aggregates run
    /// side by side, as without. What is kept, and at what cost, is told in [`order`](crate::order).
    ///
    /// Every process of the consumer has to be ordered: what one stores that is not, has no place among
    /// the events of its aggregate. Entries that are inserted by the Python package have none either.
    /// [`inline`](Self::inline) has no effect then.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(all(feature = "macros", feature = "sqlite"))] {
    /// use eventflow::{inbox::OrderPolicy, prelude::*};
    /// # #[derive(Serialize, Deserialize, Event)]
    /// # struct OrderPaid {}
    /// # #[derive(EventSet)]
    /// # enum OrderEvents { Paid(OrderPaid) }
    /// # #[handler]
    /// # async fn send_receipt(_event: OrderPaid) {}
    /// # #[router(events = OrderEvents, handlers(send_receipt))]
    /// # struct Orders;
    ///
    /// # async fn run(inbox: SqliteInbox, stream: MemoryStream) -> eventflow::Result<()> {
    /// let consumer = Consumer::builder(stream, inbox, Orders::new(()))
    ///     .ordered()
    ///     .order_policy(OrderPolicy::Skip)
    ///     .build()?;
    /// # consumer.drain().await?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub fn ordered(mut self) -> Self {
        self.settings.order.get_or_insert_default();
        self
    }

    /// What becomes of the later events of an aggregate when one of its events is a dead letter. Default:
    /// [`OrderPolicy::Block`]: they wait until it is requeued or discarded. Implies
    /// [`ordered`](Self::ordered).
    pub fn order_policy(mut self, policy: OrderPolicy) -> Self {
        self.settings.order = Some(policy);
        self
    }

    /// How many rows may be due before no more is read from the stream. Default: 10 000; 0 stores only
    /// what the workers of this process have room for.
    ///
    /// Rows that wait for their turn, as they do if the consumer is [`ordered`](Self::ordered), are not due.
    ///
    /// Less than a batch is as 0. While the workers are behind, events are stored to wait in the inbox, where they are safe from
    /// the stream's trimming, and free for the workers of any process.
    pub fn high_water_mark(mut self, rows: u32) -> Self {
        self.settings.high_water_mark = rows;
        self
    }

    /// How many scheduled runs an event has in all before it is a dead letter. Default: 3; 0 or
    /// less is for ever. Kept in each row as it is stored.
    pub fn max_retries(mut self, runs: i32) -> Self {
        self.settings.max_retries = runs;
        self
    }

    /// When a failed event runs next. Default: 60 s, doubling, capped at 15 min, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// After which time a handler that says nothing itself is cut, counted from where it first waits.
    /// Default: 30 s.
    ///
    /// A plain service's call has this time until it asks for the transaction, and once more from
    /// then on.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handler_timeout = timeout;
        self
    }

    /// How long a row is this process's unless extended, which happens each third of it. Default:
    /// 60 s. Also how long a killed process's rows wait for another.
    ///
    /// SQLite has one writer: a handler that holds the transaction keeps the extension waiting. Its
    /// own row nobody can take over meanwhile, but rows that wait beside it lapse, and run in the
    /// recovery lane, if the handler takes longer than the lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// After which time entries that another consumer of the group left pending are taken over.
    /// Default: 60 s. Must exceed the time from a read to its commit, or entries are read twice; inline,
    /// the handlers of a batch run in that time. Also how long the entries of a process wait that died
    /// before it stored them.
    pub fn claim_idle(mut self, idle: Duration) -> Self {
        self.settings.claim_idle = idle;
        self
    }

    /// How long running handlers have to finish when the consumer stops. Default: 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// The largest payload in bytes; an entry over it is kept as a dead letter. Default: 1 MiB; at
    /// most 256 MiB, which a statement can just carry.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.settings.limits = self.settings.limits.payload_bytes(bytes);
        self
    }

    /// How long processed rows are kept. Default: 7 days. After that a duplicate runs again.
    pub fn keep_processed(mut self, time: Duration) -> Self {
        self.settings.retention.processed = time;
        self
    }

    /// How long dead letters are kept. Default: 30 days.
    pub fn keep_dead_letters(mut self, time: Duration) -> Self {
        self.settings.retention.dead_letter = time;
        self
    }

    /// What becomes of events whose type the router does not know. Default:
    /// [`UnknownEvents::DeadLetter`].
    pub fn unknown_events(mut self, policy: UnknownEvents) -> Self {
        self.settings.unknown_events = policy;
        self
    }

    /// How often an idle consumer looks for rows that other processes have made due, and for rows
    /// of processes that died. Default: 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// Builds the consumer.
    ///
    /// # Errors
    /// If a setting is out of range, if the inbox has a pool of the user's that is too small for
    /// the workers, if it names another service as the owner of its rows, or if the consumer is ordered
    /// and its name and that of a stream are too long together.
    pub fn build(self) -> Result<Consumer<Src, I>>
    where
        S: Service<Delivery<I>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let settings = self.settings;
        settings.check()?;
        if settings.order.is_some() {
            let names = ReaderLease::names(&settings.name, &self.source.streams());
            names.ok_or_else(|| name_too_long(&settings.name))?;
        }
        let dispatcher = Dispatcher::new(self.service, self.routes, settings.handler_timeout);
        let workers = u32::try_from(settings.workers).unwrap_or(u32::MAX);
        let inbox = self.inbox.sized_for(Demand {
            consumer: &settings.name,
            connections: workers.saturating_add(CONNECTIONS_BESIDE_WORKERS),
            longest_handler: dispatcher.longest_handler(),
        })?;
        let due_changed = Arc::new(Notify::new());
        let inbox = match settings.order {
            None => inbox,
            Some(policy) => inbox.in_order(Order {
                policy,
                passed: Arc::clone(&due_changed),
            }),
        };
        let holder = Holder {
            consumer: settings.name.clone(),
            name: format!("{}-{}", std::process::id(), Uuid::now_v7()),
            lease: settings.lease,
        };
        let vitals = Arc::new(Vitals::new(&settings));
        Ok(Consumer {
            engine: Arc::new(Engine {
                source: self.source,
                inbox,
                outbox: self.outbox,
                dispatcher,
                settings,
                holder,
                held: Held::default(),
                optimism: Optimism::default(),
                late: Late::default(),
                promised: Promised::default(),
                counters: Arc::default(),
                vitals,
                due_changed,
                stopping: CancellationToken::new(),
                cut: CancellationToken::new(),
            }),
        })
    }
}

impl<Src, I: Inbox, S> fmt::Debug for ConsumerBuilder<Src, I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
