//! Support for the suites: private servers that end with the tests, and a shop to test with.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    unnameable_types,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper should fail the test"
)]

pub mod chain;
mod eventually;
pub mod gate;
pub mod property;
pub mod proxy;
pub mod reads;
pub mod running;
pub mod shop;
pub mod site;
pub mod work;
pub mod worker;

pub use eventflow_servers::{postgres, process, redis};

pub use self::eventually::{always, eventually};
