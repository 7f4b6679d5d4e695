//! Rows as Postgres gives them.

use sqlx::{Row as _, postgres::PgRow};

use crate::{
    envelope::Envelope,
    outbox::{record::Record, table::DeadLetter},
};

/// Reads an event, whose columns begin with its id at `first`.
pub(super) fn envelope(row: &PgRow, first: usize) -> Result<Envelope, sqlx::Error> {
    let record = Record {
        event_id: row.try_get(first + 1)?,
        event_type: row.try_get(first + 2)?,
        aggregate_id: row.try_get(first + 3)?,
        correlation_id: row.try_get(first + 4)?,
        causation_id: row.try_get(first + 5)?,
        occurred_on: row.try_get(first + 6)?,
        payload: row.try_get(first + 7)?,
        headers: row.try_get(first + 8)?,
    };
    Ok(record.into_envelope())
}

/// Reads a dead letter.
pub(super) fn dead_letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    let error_message: Option<String> = row.try_get("error_message")?;
    Ok(DeadLetter {
        id: row.try_get(0)?,
        envelope: envelope(row, 0)?,
        error_message: error_message.unwrap_or_default(),
        last_error_at: row.try_get("last_error_at")?,
    })
}
