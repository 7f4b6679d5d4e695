//! Rows as SQLite gives them.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    database::sqlite::values::{time, uuid},
    envelope::Envelope,
    outbox::{record::Record, table::DeadLetter},
};

/// Reads an event, whose columns begin with its id at `first`.
pub(super) fn envelope(row: &SqliteRow, first: usize) -> Result<Envelope, sqlx::Error> {
    let record = Record {
        event_id: row.try_get(first + 1)?,
        event_type: row.try_get(first + 2)?,
        aggregate_id: uuid(row, first + 3)?,
        correlation_id: row.try_get(first + 4)?,
        causation_id: row.try_get(first + 5)?,
        occurred_on: time(row.try_get(first + 6)?)?,
        payload: row.try_get(first + 7)?,
        headers: row.try_get(first + 8)?,
    };
    Ok(record.into_envelope())
}

/// Reads a dead letter.
pub(super) fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let error_message: Option<String> = row.try_get("error_message")?;
    Ok(DeadLetter {
        id: row.try_get(0)?,
        envelope: envelope(row, 0)?,
        error_message: error_message.unwrap_or_default(),
        last_error_at: time(row.try_get("died_at")?)?,
    })
}
