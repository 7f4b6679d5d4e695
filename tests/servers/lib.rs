//! Private servers on free ports, with their files in temporary folders, that end with the process
//! that started them, however it ends.
//!
//! What is asked of them is their users' part: the suites, the soak and the benchmark.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper should fail the test"
)]

pub mod postgres;
pub mod process;
pub mod redis;
