//! Rows as SQLite gives them.

use std::time::Duration;

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    database::{
        columns::from_micros,
        sqlite::values::{time, uuid},
    },
    inbox::{DeadLetter, Lease, record::Record},
};

/// Reads the columns that make an event and its claim.
pub(super) fn record(row: &SqliteRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        id: uuid(row, 0)?,
        token: row.try_get(1)?,
        event_id: row.try_get(2)?,
        stream_id: row.try_get(3)?,
        event_type: row.try_get(4)?,
        aggregate_id: uuid(row, 5)?,
        correlation_id: row.try_get(6)?,
        causation_id: row.try_get(7)?,
        occurred_on: time(row.try_get(8)?)?,
        payload: row.try_get(9)?,
        headers: row.try_get(10)?,
        raw: row.try_get(11)?,
        retry_count: row.try_get(12)?,
        max_retries: row.try_get(13)?,
    })
}

/// Reads a row that was claimed: with when it is due, and how long until then.
pub(super) fn claimed(row: &SqliteRow) -> Result<(i64, Duration, Record), sqlx::Error> {
    let wait = from_micros(row.try_get("wait")?);
    Ok((row.try_get("due")?, wait, record(row)?))
}

/// Reads a row that was recovered: with its next state.
pub(super) fn recovered(row: &SqliteRow) -> Result<(String, Record), sqlx::Error> {
    Ok((row.try_get("status")?, record(row)?))
}

/// Reads a dead letter.
pub(super) fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let died_at = time(row.try_get("died_at")?)?;
    Ok(record(row)?.into_dead_letter(row.try_get("error_message")?, died_at))
}

/// Reads `id, lock_token`.
pub(super) fn lease(row: &SqliteRow) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        id: uuid(row, 0)?,
        token: row.try_get(1)?,
    })
}
