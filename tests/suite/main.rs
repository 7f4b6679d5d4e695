//! The suites.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper should fail the test"
)]

/// Makes a test of each case for each database in each mode.
macro_rules! on_every_database {
    ($($case:ident),* $(,)?) => {
        on_databases!(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            [
                sqlite: Sqlite<Owned>,
                sqlite_inline_replay_safe: Sqlite<InlineReplaySafe>,
                postgres: Postgres<Owned>,
                postgres_inline: Postgres<Inline>,
                postgres_replay_safe: Postgres<ReplaySafe>,
                postgres_inline_replay_safe: Postgres<InlineReplaySafe>,
            ]
            [$($case),*]
        );
    };
}

/// Makes a test of each case for Postgres in each mode; with another attribute, if the case needs it.
macro_rules! on_postgres {
    ($($case:ident),* $(,)?) => {
        on_postgres!(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $($case),*
        );
    };
    (#[$test:meta] $($case:ident),* $(,)?) => {
        mod on_postgres {
            use super::*;

            on_databases!(
                #[$test]
                [
                    owned: Postgres<Owned>,
                    inline: Postgres<Inline>,
                    replay_safe: Postgres<ReplaySafe>,
                    inline_replay_safe: Postgres<InlineReplaySafe>,
                ]
                [$($case),*]
            );
        }
    };
}

/// Makes a test of each case for each database in the modes in which a row is there, and leased,
/// before its handler runs.
macro_rules! owned_at_birth {
    ($($case:ident),* $(,)?) => {
        mod owned_at_birth {
            use super::*;

            on_databases!(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                [
                    sqlite: Sqlite<Owned>,
                    postgres: Postgres<Owned>,
                    postgres_replay_safe: Postgres<ReplaySafe>,
                ]
                [$($case),*]
            );
        }
    };
}

/// As [`owned_at_birth`], on Postgres.
macro_rules! owned_at_birth_on_postgres {
    ($($case:ident),* $(,)?) => {
        mod owned_at_birth {
            use super::*;

            on_databases!(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                [postgres: Postgres<Owned>, postgres_replay_safe: Postgres<ReplaySafe>,]
                [$($case),*]
            );
        }
    };
}

macro_rules! on_databases {
    (#[$test:meta] [$($module:ident: $Database:ident<$Mode:ident>,)+] $cases:tt) => {
        $(on_databases!(#[$test] $module: $Database<$Mode> $cases);)+
    };
    (#[$test:meta] $module:ident: $Database:ident<$Mode:ident> [$($case:ident),*]) => {
        mod $module {
            use eventflow_tests::shop::{$Database, $Mode};

            $(
                #[$test]
                async fn $case() {
                    super::$case::<$Database<$Mode>>().await;
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
