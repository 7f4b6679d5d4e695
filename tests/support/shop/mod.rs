//! A shop to test consumers with: its events, and handlers that do what a test says.
//!
//! A case is written once for every [`Database`]; handlers differ between databases by the type of
//! the connection only, so they are written by a macro and call the test's [`Script`].

mod database;
mod mode;
mod script;

use std::{ops::Range, time::Duration};

use eventflow::{
    consumer::ConsumerBuilder,
    inbox::{Counts, DeadLetter, Due, Holder, backoff::Backoff},
    outbox::OutboxTable,
    prelude::*,
    router::{Reply, Router},
    stream::EntryId,
};

pub use self::{
    database::{
        Database, OnPostgres, Postgres, Sqlite, postgres, postgres_inline,
        postgres_inline_replay_safe, postgres_replay_safe, print_label, sqlite,
        sqlite_inline_replay_safe,
    },
    mode::{InMode, Inline, InlineReplaySafe, Mode, Owned, ReplaySafe},
    script::{Answer, Call, Parcel, ParcelScript, Script},
};

/// Handled with the transaction.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct OrderPlaced {
    #[event(aggregate_id)]
    pub order_id: Uuid,
    pub number: u32,
}

/// Handled without a transaction.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct ParcelShipped {
    pub number: u32,
}

/// Ignored.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct PriceAsked {
    pub number: u32,
}

/// What the stream `shop` carries.
#[derive(Debug, EventSet)]
pub enum ShopEvents {
    Placed(OrderPlaced),
    Shipped(ParcelShipped),
    Asked(PriceAsked),
}

/// The group of the shop's consumers, and the owner of its rows.
pub const GROUP: &str = "shop";

/// A stream, an inbox, and a table `effects` for what handlers write.
#[derive(Debug)]
pub struct Shop<D: Database> {
    pub database: D,
    pub stream: MemoryStream,
}

/// A builder of the shop's consumers.
pub type Builder<D> = ConsumerBuilder<MemoryStream, <D as Database>::Inbox, ShopRouter<D>>;

/// The router with the test's script.
pub type ShopRouter<D> = Router<<D as Database>::Table, <D as Database>::Inbox, Script<D>>;

impl<D: Database> Shop<D> {
    pub async fn open() -> Self {
        Self::on(D::create().await).await
    }

    /// A shop on a database that the test has made.
    pub async fn on(database: D) -> Self {
        let shop = Self {
            database,
            stream: MemoryStream::new("shop").group(GROUP),
        };
        shop.inbox().migrate().await.unwrap();
        shop.inbox().outbox().migrate().await.unwrap();
        shop.database
            .change("CREATE TABLE effects (name TEXT NOT NULL)")
            .await;
        // From here on the group gets what is published.
        eventflow::Source::open(&shop.stream).await.unwrap();
        shop
    }

    pub fn inbox(&self) -> D::Inbox {
        self.database.inbox()
    }

    /// A consumer whose retries are due in an hour.
    pub fn consumer(&self, script: Script<D>) -> Builder<D> {
        self.consumer_of(self.stream.clone(), script)
    }

    /// A consumer that reads another handle of the stream.
    pub fn consumer_of(&self, stream: MemoryStream, script: Script<D>) -> Builder<D> {
        D::MODE
            .set(Consumer::builder(stream, self.inbox(), router(script)))
            .backoff(in_an_hour())
            .poll_interval(Duration::from_millis(20))
    }

    /// A consumer of another service than the shop's.
    pub fn serving<S>(&self, service: S) -> ConsumerBuilder<MemoryStream, D::Inbox, S>
    where
        S: Service<Delivery<D::Inbox>, Response: Reply>,
    {
        D::MODE.set(Consumer::builder(
            self.stream.clone(),
            self.inbox(),
            service,
        ))
    }

    /// Publishes orders with these numbers; their event ids are `order-<number>`.
    pub async fn orders(&self, numbers: Range<u32>) -> Vec<EntryId> {
        let envelopes: Vec<_> = numbers.map(order).collect();
        self.stream.send(&envelopes).await.unwrap()
    }

    /// Publishes parcels with these numbers; their event ids are `parcel-<number>`.
    pub async fn parcels(&self, numbers: Range<u32>) -> Vec<EntryId> {
        let envelopes: Vec<_> = numbers.map(parcel).collect();
        self.stream.send(&envelopes).await.unwrap()
    }

    pub async fn counts(&self) -> Counts {
        self.inbox().counts(GROUP).await.unwrap()
    }

    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.inbox().dead_letters(GROUP, 1000).await.unwrap()
    }

    /// What handlers have written, in order of the names.
    pub async fn effects(&self) -> Vec<String> {
        let mut names = self.database.texts("SELECT name FROM effects").await;
        names.sort();
        names
    }

    /// The event ids of rows in this state, in order.
    pub async fn event_ids(&self, status: &str) -> Vec<String> {
        self.database
            .texts(format!(
                "SELECT event_id FROM event_inbox WHERE status = '{status}' ORDER BY event_id"
            ))
            .await
    }

    /// One column of the row of one event, as text; empty if it is NULL.
    pub async fn column(&self, event_id: &str, column: &str) -> String {
        let texts = self
            .database
            .texts(format!(
                "SELECT COALESCE(CAST({column} AS TEXT), '') FROM event_inbox WHERE event_id = '{event_id}'"
            ))
            .await;
        assert_eq!(texts.len(), 1, "{event_id} has {} rows", texts.len());
        texts.into_iter().next().unwrap()
    }

    /// Claims what is due as a process that then goes away would.
    pub async fn claimed_by_another(&self, lease: Duration) -> usize {
        let holder = Holder {
            consumer: GROUP.to_owned(),
            name: "another".to_owned(),
            lease,
        };
        let rows = self.inbox().claim(&holder, Due::Later, 1000).await.unwrap();
        rows.len()
    }
}

/// The router with the test's script.
pub fn router<D: Database>(script: Script<D>) -> ShopRouter<D> {
    Router::new(script)
}

/// Retries that are due almost at once.
pub fn soon() -> Backoff {
    Backoff::new(Duration::from_millis(1), Duration::from_millis(1)).without_jitter()
}

/// Retries that no test waits for.
pub fn in_an_hour() -> Backoff {
    let hour = Duration::from_hours(1);
    Backoff::new(hour, hour).without_jitter()
}

pub fn order(number: u32) -> Envelope {
    let event = OrderPlaced {
        order_id: Uuid::now_v7(),
        number,
    };
    Envelope::new(&event)
        .unwrap()
        .with_event_id(format!("order-{number}"))
}

pub fn parcel(number: u32) -> Envelope {
    Envelope::new(&ParcelShipped { number })
        .unwrap()
        .with_event_id(format!("parcel-{number}"))
}

/// The names of the effects that orders with these numbers have.
pub fn names(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut names: Vec<_> = numbers.into_iter().map(|n| format!("order-{n}")).collect();
    names.sort();
    names
}
