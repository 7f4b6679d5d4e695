//! The suites.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper should fail the test"
)]

/// Makes a test of each case for each database.
macro_rules! on_every_database {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case::<eventflow_tests::shop::Sqlite>().await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case::<eventflow_tests::shop::Postgres>().await;
                }
            )*
        }
    };
}

mod consumer;
mod faults;
mod inbox;
mod service;
mod stream;
mod tower;
