//! The routing table as a tower service: which handler runs for which event.
//!
//! `#[router]` generates the table; this module is what it generates against. When an event runs,
//! and in which transaction, is [`consumer`](crate::consumer)'s part.

mod builder;
mod call;
mod dispatch;
mod places;
mod ready;
mod reply;
mod service;
mod table;

pub use self::{
    builder::{HandlerFn, HandlerService, RouterBuilder},
    reply::{Handled, Reply},
    service::{Dispatch, ResponseFuture, Router, Runs},
    table::{
        Calls, CoveredBy, HandlerAt, HandlerRoute, Handles, Ignored, Route, RouteTable, Routes,
    },
};
#[doc(hidden)]
pub use self::{
    dispatch::{Groups, HandleAll, dispatch},
    places::Places,
};
pub(crate) use self::{ready::NotReady, table::PLAIN};
