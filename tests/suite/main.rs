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

/// Makes a test of each case for Postgres, owned at birth and inline with each kind of savepoint; with
/// another attribute, if the case needs it.
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
                    inline_replay_safe: Postgres<InlineReplaySafe>,
                ]
                [$($case),*]
            );
        }
    };
}

/// Makes tests of cases for some databases and modes, in a module of this name.
macro_rules! in_some_modes {
    ($name:ident $modules:tt [$($case:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            on_databases!(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                $modules
                [$($case),*]
            );
        }
    };
}

/// The modes in which a row is there, and leased, before its handler runs.
macro_rules! owned_at_birth {
    ($($case:tt)*) => {
        in_some_modes!(
            owned_at_birth
            [
                sqlite: Sqlite<Owned>,
                postgres: Postgres<Owned>,
                postgres_replay_safe: Postgres<ReplaySafe>,
            ]
            [$($case)*]
        );
    };
}

/// As [`owned_at_birth`], on Postgres.
macro_rules! owned_at_birth_on_postgres {
    ($($case:tt)*) => {
        in_some_modes!(
            owned_at_birth_on_postgres
            [postgres: Postgres<Owned>, postgres_replay_safe: Postgres<ReplaySafe>,]
            [$($case)*]
        );
    };
}

/// The modes in which a row is stored and handled by one commit.
macro_rules! inline {
    ($($case:tt)*) => {
        in_some_modes!(
            inline
            [
                sqlite_replay_safe: Sqlite<InlineReplaySafe>,
                postgres: Postgres<Inline>,
                postgres_replay_safe: Postgres<InlineReplaySafe>,
            ]
            [$($case)*]
        );
    };
}

/// As [`inline`], on Postgres.
macro_rules! inline_on_postgres {
    ($($case:tt)*) => {
        in_some_modes!(
            inline_on_postgres
            [postgres: Postgres<Inline>, postgres_replay_safe: Postgres<InlineReplaySafe>,]
            [$($case)*]
        );
    };
}

/// The modes in which events of a unit share a savepoint.
macro_rules! replay_safe {
    ($($case:tt)*) => {
        in_some_modes!(
            replay_safe
            [
                sqlite_inline: Sqlite<InlineReplaySafe>,
                postgres: Postgres<ReplaySafe>,
                postgres_inline: Postgres<InlineReplaySafe>,
            ]
            [$($case)*]
        );
    };
}

/// As [`replay_safe`], on Postgres.
macro_rules! replay_safe_on_postgres {
    ($($case:tt)*) => {
        in_some_modes!(
            replay_safe_on_postgres
            [postgres: Postgres<ReplaySafe>, postgres_inline: Postgres<InlineReplaySafe>,]
            [$($case)*]
        );
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
mod modes;
mod order;
mod publishing;
mod relay;
mod service;
mod stream;
mod tower;
