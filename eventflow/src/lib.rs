//! Event-driven services over a transactional inbox.
//!
//! EventFlow takes events from a stream, stores each one once in an inbox table, and runs the typed
//! handler of its type inside the database transaction that also marks it processed. What fails is
//! retried with backoff; what cannot be handled is kept as a dead letter with its reason. An event
//! type without a handler is a compile error.
//!
//! # Example
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "sqlite"))] {
//! use eventflow::prelude::*;
//!
//! /// A customer has paid.
//! #[derive(Debug, Serialize, Deserialize, Event)]
//! pub struct OrderPaid {
//!     #[event(aggregate_id)]
//!     pub order_id: Uuid,
//! }
//!
//! /// Everything that stream `orders` carries.
//! #[derive(Debug, EventSet)]
//! pub enum OrderEvents {
//!     Paid(OrderPaid),
//! }
//!
//! #[handler(timeout = "5s", retry(attempts = 3, backoff = "20ms"))]
//! async fn book(event: OrderPaid, tx: &mut SqliteConnection) -> Result<(), Failure> {
//!     sqlx::query("INSERT INTO ledger (order_id) VALUES (?)")
//!         .bind(event.order_id.to_string())
//!         .execute(tx)
//!         .await?;
//!     Ok(())
//! }
//!
//! #[router(events = OrderEvents, handlers(book))]
//! pub struct Orders;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inbox = SqliteInbox::in_memory().await?;
//! inbox.migrate().await?;
//! # sqlx::query("CREATE TABLE ledger (order_id TEXT)").execute(inbox.pool()).await?;
//! let stream = MemoryStream::new("orders").group("accounts");
//! stream.publish(&OrderPaid { order_id: Uuid::now_v7() }).await?;
//!
//! let consumer = Consumer::builder(stream, inbox, Orders::new(()))
//!     .layer(TraceLayer::new())
//!     .build()?;
//! let report = consumer.drain().await?; // a service: `run_until(shutdown_signal())`
//! assert_eq!(report.processed, 1);
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # Delivery
//!
//! At-least-once delivery, and effects exactly once for everything that the handler writes through
//! its transaction: the handler's writes and the row's new state commit together or not at all.
//! Effects elsewhere need an idempotency key: the event id in [`Metadata`]. A duplicate is
//! recognised for as long as its row is kept. Events are not ordered, unless the consumer is: see [`mod@order`].
//! What happens when a process, a server or the network fails is in [`guarantees`].
//!
//! # Events
//!
//! A struct becomes an event with [`#[derive(Event)]`](macro@Event), and what a stream carries is a
//! closed set with [`#[derive(EventSet)]`](macro@EventSet). How they travel is in [`envelope`].
//!
//! # Handlers and routers
//!
//! [`#[handler]`](macro@handler) keeps an `async fn` as it is and makes a handler of it; what it may
//! ask for is in [`handler::param`], what it may answer in [`handler::failure`].
//! [`#[router]`](macro@router) binds a set to its handlers, checked whole by the compiler, and makes
//! a [`tower::Service`] of [`Delivery`]s, which any tower layer fits.
//!
//! # Consumers
//!
//! [`Consumer`] runs a service over a [`Source`] and an [`Inbox`]: [`RedisStream`] or
//! [`MemoryStream`], [`PgInbox`] or [`SqliteInbox`].
//!
//! # Features
//!
//! All are on by default.
//!
//! | feature | gives |
//! | --- | --- |
//! | `macros` | the derives, `#[handler]`, `#[router]` |
//! | `postgres` | [`PgInbox`] |
//! | `redis` | [`RedisStream`] |
//! | `sqlite` | [`SqliteInbox`] |
//!
//! # Layout
//!
//! Data flows one way: [`stream`] → [`inbox`] → [`consumer`] → [`router`](mod@router) →
//! [`handler`](mod@handler) → settled in the inbox.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "fail-points", not(debug_assertions)))]
compile_error!(
    "the feature `fail-points` is for EventFlow's own tests; build without it, or with debug assertions"
);

pub mod consumer;
mod database;
pub mod delivery;
pub mod envelope;
pub mod error;
pub mod event;
mod fail_point;
#[doc = include_str!("docs/guarantees.md")]
pub mod guarantees {}
pub mod handler;
pub mod inbox;
pub mod layer;
#[doc = include_str!("docs/modes.md")]
pub mod modes {}
#[doc = include_str!("docs/order.md")]
pub mod order {}
pub mod outbox;
pub mod router;
pub mod stream;
mod unique_name;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
#[doc(inline)]
pub use self::inbox::PgInbox;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
#[doc(inline)]
pub use self::inbox::SqliteInbox;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[doc(inline)]
pub use self::stream::RedisStream;
#[doc(inline)]
pub use self::{
    consumer::{Consumer, Report},
    delivery::Delivery,
    envelope::{DecodeError, EncodeError, Envelope, Metadata, Payload},
    error::{BoxError, Error, ErrorKind, Result},
    event::{Event, EventSet},
    handler::{Classify, Failure, State},
    inbox::Inbox,
    outbox::{Outbox, PublishError},
    stream::{MemoryStream, Sink, Source},
};

/// Implements [`Event`](trait@Event) for a struct.
///
/// - `#[event(type = "…")]` on the struct is its name on the wire, 1 to 128 characters; the
///   default is the struct's own.
/// - `#[event(aggregate_id)]` on a [`Uuid`](uuid::Uuid) field marks the aggregate that the event is
///   about.
/// - `#[eventflow(crate = path)]` says where this crate is, if not at `::eventflow`; every macro
///   here takes it.
///
/// The event is written with serde, as a JSON object: derive `Serialize` and `Deserialize` too. A
/// struct with no fields is written as `{}`, reads any object, and needs no serde.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "order.created")]
/// struct OrderCreated {
///     #[event(aggregate_id)]
///     order_id: Uuid,
///     quantity: u32,
/// }
///
/// #[derive(Event)]
/// struct DayEnded;
///
/// assert_eq!(OrderCreated::TYPE, "order.created");
/// assert_eq!(DayEnded::TYPE, "DayEnded");
/// ```
///
/// One name on the wire is one struct, so an event cannot be generic:
/// ```compile_fail
/// use eventflow::prelude::*;
///
/// #[derive(Serialize, Deserialize, Event)]
/// struct Changed<T> {
///     what: T,
/// }
/// ```
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::Event;

/// Implements [`EventSet`](trait@EventSet) for an enum whose variants each hold one event.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// #[derive(Event)]
/// struct DayStarted;
///
/// #[derive(Event)]
/// struct DayEnded;
///
/// #[derive(EventSet)]
/// enum Days {
///     Started(DayStarted),
///     Ended(DayEnded),
/// }
///
/// let envelope = Envelope::new(&DayEnded)?;
/// assert!(matches!(<Days as EventSet>::decode(&envelope), Ok(Days::Ended(_))));
/// # Ok::<(), eventflow::EncodeError>(())
/// ```
///
/// Two events of a set cannot have the same name on the wire:
/// ```compile_fail
/// # use eventflow::prelude::*;
/// #[derive(Event)]
/// struct DayStarted;
///
/// #[derive(Event)]
/// #[event(type = "DayStarted")]
/// struct MorningCame;
///
/// #[derive(EventSet)]
/// enum Days {
///     Started(DayStarted),
///     Morning(MorningCame),
/// }
/// ```
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::EventSet;

/// Implements [`Classify`](trait@Classify) for an error: what is to happen with the event.
///
/// On each variant of an enum, or on a struct:
/// - `#[classify(retry)]`: run it again on the inbox's schedule. The default.
/// - `#[classify(retry_after = "30s")]`: run it again after that time.
/// - `#[classify(dead_letter)]`: keep it, no further run can help.
/// - `#[classify(transparent)]`: the error in the only field says.
///
/// A duration is a whole number and a unit: `"50ms"`, `"5s"`, `"2m"`, `"1h"`.
///
/// # Examples
/// ```
/// use std::{error::Error, fmt};
///
/// use eventflow::{handler::FailureKind, prelude::*};
///
/// #[derive(Debug, Classify)]
/// enum StockError {
///     Busy,
///     #[classify(dead_letter)]
///     NoSuchArticle,
/// }
///
/// impl Error for StockError {}
/// # impl fmt::Display for StockError {
/// #     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
/// #         f.write_str("no stock")
/// #     }
/// # }
///
/// assert_eq!(StockError::Busy.classify(), FailureKind::Retry);
/// assert_eq!(StockError::NoSuchArticle.classify(), FailureKind::DeadLetter);
/// ```
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::Classify;

/// Makes a handler of an `async fn`.
///
/// The first parameter is the event, by value; in a fallback it is the [`Envelope`]. The others
/// come in any order: the transaction (`&mut PgConnection` or `&mut SqliteConnection`), what publishes
/// in it (`&mut`[`Outbox`]), [`State<T>`](State), `&`[`Metadata`], `&`[`Envelope`], and types of one's own (see
/// [`HandlerParam`](handler::HandlerParam)); there are at most 16 in all. It answers `()` or
/// `Result<(), E>`, where `E` is a [`Failure`], a boxed error, or [`Classify`](trait@Classify).
///
/// Options, all of them optional:
/// - `timeout = "5s"`: after which time one call is cut, counted from where it first waits. The default is
///   the consumer's, 30 s.
/// - `retry(attempts = 3, backoff = "50ms")`: a failed call is repeated at once, in process, from a
///   clean savepoint. `attempts` counts the first call too; `backoff` is the time between two,
///   10 ms unless set. All waits together are at most 1 s, since the transaction stays open; longer
///   ones are the inbox's, by [`Failure::retry_after`] or the consumer's
///   [`backoff`](consumer::ConsumerBuilder::backoff).
///   Not repeated are calls that were cut for time, failures that say when to run again or that none
///   helps, and errors of the infrastructure.
/// - `replay_safe`: the handler has no effects outside its transaction, so that it may run again as if
///   it had not run. Events of such handlers share one savepoint: see [`modes`].
/// - `publishes(OrderPaid, OrderShipped)`: the events that it publishes, for the reader; the [`Outbox`]
///   refuses others.
/// - `crate = path`: where this crate is, if not at `::eventflow`.
///
/// The function stays callable as it is. A hidden struct of its name comes beside it, among the
/// types, so that one `use` brings both; a `pub` handler needs a `pub` event.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// #[derive(Serialize, Deserialize, Event)]
/// struct OrderCreated {
///     quantity: u32,
/// }
///
/// #[handler(timeout = "5s", retry(attempts = 3, backoff = "50ms"))]
/// async fn reserve_stock(event: OrderCreated, meta: &Metadata) -> Result<(), Failure> {
///     if event.quantity == 0 {
///         let id = &meta.event_id;
///         return Err(Failure::dead_letter(format!("order {id} is for nothing")));
///     }
///     Ok(())
/// }
/// ```
///
/// A parameter that no handler can take is refused at its type:
/// ```compile_fail
/// # use eventflow::prelude::*;
/// # #[derive(Event)]
/// # struct OrderCreated;
/// #[handler]
/// async fn reserve_stock(_event: OrderCreated, warehouse: String) {}
/// ```
///
/// So is an error that does not say whether to retry:
/// ```compile_fail
/// # use eventflow::prelude::*;
/// # #[derive(Event)]
/// # struct OrderCreated;
/// #[handler]
/// async fn reserve_stock(_event: OrderCreated) -> Result<(), std::fmt::Error> {
///     Ok(())
/// }
/// ```
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::handler;

/// Makes a routing table of a unit struct, checked whole by the compiler.
///
/// - `events = OrderEvents`: the set that the router covers.
/// - `handlers(reserve_stock, payments::charge_card)`: functions annotated with `#[handler]`.
/// - `ignore(OrderCancelled)`: events of the set that need no handler.
/// - `fallback(on_other)`: the handler of every event outside the set; it takes an [`Envelope`].
/// - `crate = path`: where this crate is, if not at `::eventflow`.
///
/// The struct gets `new(state)`, which makes a [`Router`](router::Router), and `builder(state)`,
/// which makes one with layers on single handlers.
///
/// # Examples
/// ```
/// use eventflow::{prelude::*, router::Router};
///
/// #[derive(Event)]
/// struct OrderCreated;
///
/// #[derive(Event)]
/// struct OrderCancelled;
///
/// #[derive(EventSet)]
/// enum OrderEvents {
///     Created(OrderCreated),
///     Cancelled(OrderCancelled),
/// }
///
/// #[handler]
/// async fn reserve_stock(_event: OrderCreated, State(_shelf): State<u32>) {}
///
/// #[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderCancelled))]
/// struct Orders;
///
/// fn orders<I: Inbox>() -> Router<Orders, I, u32> {
///     Orders::builder(7).layer(reserve_stock, TraceLayer::new()).build()
/// }
/// ```
///
/// An event of the set with neither a handler nor an `ignore` is an error:
/// ```compile_fail
/// # use eventflow::prelude::*;
/// # #[derive(Event)]
/// # struct OrderCreated;
/// # #[derive(Event)]
/// # struct OrderCancelled;
/// # #[derive(EventSet)]
/// # enum OrderEvents {
/// #     Created(OrderCreated),
/// #     Cancelled(OrderCancelled),
/// # }
/// # #[handler]
/// # async fn reserve_stock(_event: OrderCreated) {}
/// #[router(events = OrderEvents, handlers(reserve_stock))]
/// struct Orders;
/// ```
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::router;

/// What a service usually needs: `use eventflow::prelude::*;`.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};
    #[cfg(feature = "postgres")]
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
    pub use sqlx::PgConnection;
    #[cfg(feature = "sqlite")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
    pub use sqlx::SqliteConnection;
    pub use tower::{Service, ServiceBuilder};
    pub use uuid::Uuid;

    #[cfg(feature = "macros")]
    #[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
    pub use eventflow_macros::{handler, router};

    #[cfg(feature = "postgres")]
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
    pub use crate::PgInbox;
    #[cfg(feature = "sqlite")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
    pub use crate::SqliteInbox;

    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub use crate::RedisStream;
    pub use crate::{
        Classify, Consumer, Delivery, Envelope, Event, EventSet, Failure, Inbox, MemoryStream,
        Metadata, Outbox, Sink, State,
        handler::FromRef,
        layer::TraceLayer,
        outbox::{OutboxTable, Relay},
    };
}

#[cfg(all(
    doctest,
    feature = "macros",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
#[doc = include_str!("../../README.md")]
struct Readme;
