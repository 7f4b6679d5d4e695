//! Rows as Postgres gives them.

use sqlx::{Row as _, postgres::PgRow};

use crate::{
    database::columns::from_micros,
    envelope::Envelope,
    outbox::{
        record::Record,
        table::{Counts, DeadLetter, Fetched, Pending},
    },
};

/// Reads an event, whose columns begin with its id at `first`.
fn envelope(row: &PgRow, first: usize) -> Result<Envelope, sqlx::Error> {
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

/// Reads what a term has fetched; nothing if it is over.
pub(super) fn fetched(rows: &[PgRow]) -> Result<Option<Fetched>, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let next_due: Option<i64> = first.try_get(0)?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        // One row says that the term lasts, also with no event.
        if let Some(id) = row.try_get(1)? {
            events.push(Pending {
                id,
                envelope: envelope(row, 1)?,
                waited: from_micros(row.try_get("waited")?),
            });
        }
    }
    Ok(Some(Fetched {
        events,
        next_due: next_due.map(from_micros),
    }))
}

/// Reads the one row of counts.
pub(super) fn counts(row: &PgRow) -> Result<Counts, sqlx::Error> {
    let count = |index| {
        let count: i64 = row.try_get(index)?;
        Ok::<_, sqlx::Error>(u64::try_from(count).unwrap_or(0))
    };
    let lag: Option<i64> = row.try_get(4)?;
    Ok(Counts {
        pending: count(0)?,
        delayed: count(1)?,
        published: count(2)?,
        dead_letter: count(3)?,
        lag: lag.map(from_micros),
    })
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
