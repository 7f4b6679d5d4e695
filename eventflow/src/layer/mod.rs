//! Our own tower layers. tower's own work on a router as they are.
//!
//! [`TraceLayer`] opens a span per delivery, [`CatchPanicLayer`] turns a panic into a failure;
//! the consumer puts the latter around every service by itself. The timeout and the immediate
//! retries of a handler are its router's, from what `#[handler]` says.

pub mod catch_panic;
pub(crate) mod retry;
pub mod timeout;
pub mod trace;

pub use self::{
    catch_panic::{CatchPanic, CatchPanicLayer},
    trace::{Trace, TraceLayer},
};
