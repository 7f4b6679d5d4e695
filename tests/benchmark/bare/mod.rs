//! The bare loops: what a programmer would write by hand who wants the same rows in the same table,
//! with the same drivers, and no framework. They are the limit that the engine is measured against.
//!
//! They handle no error: whatever fails ends the run.

mod arrival;
mod memory;
mod postgres;
mod redis;
mod sqlite;
mod trickle;

pub(crate) use self::trickle::trickle;
use crate::{
    Result,
    job::{Flood, Outcome, Place},
};

/// As many entries are read at once as a consumer reads unless told otherwise.
const BATCH: usize = 100;

/// How often an event may run, in each row.
const MAX_RETRIES: i32 = 3;

/// How long a lease lasts, in microseconds.
const LEASE: i64 = 60_000_000;

/// Whose leases the rows have.
const HOLDER: &str = "bare";

pub(crate) async fn flood(flood: &Flood) -> Result<Outcome> {
    match &flood.place {
        Place::Servers {
            redis,
            postgres: url,
        } => postgres::run(flood, redis, url).await,
        Place::Sqlite { file } => sqlite::run(flood, file).await,
    }
}
