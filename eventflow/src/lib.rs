//! Event-driven services over a transactional inbox.

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
