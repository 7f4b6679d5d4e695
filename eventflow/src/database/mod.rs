//! What the inbox and the outbox need of a database: names of tables, statements' texts, what errors
//! mean, numbers in rows, work that is not cut, and leases between processes.
//!
//! What stands in the tables is [`inbox`](crate::inbox)'s and [`outbox`](crate::outbox)'s part.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod columns;
pub(crate) mod error;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod identifier;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod lease;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod numbers;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod task;
