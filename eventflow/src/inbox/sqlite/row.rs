//! Rows as SQLite gives them.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    database::sqlite::values::{time, uuid},
    inbox::{Lease, record::Record},
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

/// Reads `id, lock_token`.
pub(super) fn lease(row: &SqliteRow) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        id: uuid(row, 0)?,
        token: row.try_get(1)?,
    })
}
