//! The suites.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper should fail the test"
)]

mod inbox;
mod service;
mod stream;
