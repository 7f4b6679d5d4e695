//! Rows as Postgres gives them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Decode, Postgres, Row as _, Type, postgres::PgRow};
use uuid::Uuid;

use crate::{
    database::columns::from_micros,
    inbox::{
        DeadLetter, Lease,
        record::{Entered, Record},
    },
};

/// Reads the columns that make an event and its claim.
pub(super) fn record(row: &PgRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        id: row.try_get(0)?,
        token: row.try_get(1)?,
        event_id: row.try_get(2)?,
        stream_id: row.try_get(3)?,
        event_type: row.try_get(4)?,
        aggregate_id: row.try_get(5)?,
        correlation_id: row.try_get(6)?,
        causation_id: row.try_get(7)?,
        occurred_on: row.try_get(8)?,
        payload: row.try_get(9)?,
        headers: row.try_get(10)?,
        raw: row.try_get(11)?,
        retry_count: row.try_get(12)?,
        max_retries: row.try_get(13)?,
    })
}

/// Reads a row that was claimed: with when it is due, and how long until then.
pub(super) fn claimed(row: &PgRow) -> Result<(DateTime<Utc>, Duration, Record), sqlx::Error> {
    let wait = from_micros(row.try_get("wait")?);
    Ok((row.try_get("due")?, wait, record(row)?))
}

/// Reads a row that was recovered: with its next state.
pub(super) fn recovered(row: &PgRow) -> Result<(String, Record), sqlx::Error> {
    Ok((row.try_get("status")?, record(row)?))
}

/// Reads a dead letter.
pub(super) fn dead_letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    let died_at = row.try_get("died_at")?;
    Ok(record(row)?.into_dead_letter(row.try_get("error_message")?, died_at))
}

/// Reads the ids of the rows that have entered: an array, which is null if none has.
pub(super) fn entered(answer: &[PgRow]) -> Result<Entered, sqlx::Error> {
    let ids: Option<Vec<Uuid>> = match answer.first() {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    Ok(Entered::Only(ids.into_iter().flatten().collect()))
}

/// Reads the claims that held.
pub(super) fn settled(answer: &[PgRow]) -> Result<Vec<Lease>, sqlx::Error> {
    let (ids, tokens) = arrays::<Uuid, i64>(answer)?;
    let leases = ids.into_iter().zip(tokens);
    Ok(leases.map(|(id, token)| Lease { id, token }).collect())
}

/// Reads two columns that are in one row, as arrays; of no rows, they are null.
fn arrays<A, B>(answer: &[PgRow]) -> Result<(Vec<A>, Vec<B>), sqlx::Error>
where
    for<'r> Vec<A>: Decode<'r, Postgres> + Type<Postgres>,
    for<'r> Vec<B>: Decode<'r, Postgres> + Type<Postgres>,
{
    let Some(row) = answer.first() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let first: Option<Vec<A>> = row.try_get(0)?;
    let second: Option<Vec<B>> = row.try_get(1)?;
    Ok((first.unwrap_or_default(), second.unwrap_or_default()))
}

/// Reads `id, lock_token`.
pub(super) fn lease(row: &PgRow) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        id: row.try_get(0)?,
        token: row.try_get(1)?,
    })
}
