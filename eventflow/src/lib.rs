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
//! recognised for as long as its row is kept. Events are not ordered.
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
//! [`handler`](mod@handler) → settled in
//! the inbox.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod consumer;
pub mod delivery;
pub mod envelope;
pub mod error;
pub mod event;
pub mod handler;
pub mod inbox;
pub mod layer;
pub mod router;
pub mod stream;

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
    stream::{MemoryStream, Sink, Source},
};

#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use eventflow_macros::{Classify, Event, EventSet, handler, router};

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
        Metadata, Sink, State, handler::FromRef, layer::TraceLayer,
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
