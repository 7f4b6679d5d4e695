//! What crosses the border to SQLite: rows out, batches in as JSON arrays.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use crate::inbox::{
    Admission, Arrival, Lease, Settlement, Status,
    record::{Record, headers_of, storable, stream_id_of},
};

/// The time of rows that are parked: later than any other.
const NEVER: i64 = i64::MAX;

/// An arrival as the insert statement reads it.
#[derive(Serialize)]
struct ArrivalRecord<'a> {
    id: Uuid,
    event_id: &'a str,
    stream_id: String,
    event_type: &'a str,
    aggregate_id: Uuid,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    occurred_on: i64,
    payload: &'a str,
    headers: Option<String>,
    raw: Option<String>,
    status: &'static str,
    max_retries: i32,
    next_retry_at: Option<i64>,
    error_message: Option<String>,
}

/// Writes a batch of arrivals and the ids of their rows, in order.
pub(super) fn arrivals_json(arrivals: &[Arrival]) -> Result<(String, Vec<Uuid>), sqlx::Error> {
    let ids: Vec<Uuid> = arrivals.iter().map(|_| Uuid::now_v7()).collect();
    let records: Vec<ArrivalRecord<'_>> = arrivals.iter().zip(&ids).map(arrival_record).collect();
    Ok((json(&records)?, ids))
}

fn arrival_record<'a>((arrival, id): (&'a Arrival, &Uuid)) -> ArrivalRecord<'a> {
    let metadata = &arrival.metadata;
    let (status, next_retry_at, error_message) = match &arrival.admission {
        Admission::Run => (Status::Processing, None, None),
        Admission::Park => (Status::Pending, Some(NEVER), None),
        Admission::DeadLetter(reason) => (Status::DeadLetter, None, Some(storable(reason))),
    };
    ArrivalRecord {
        id: *id,
        event_id: &metadata.event_id,
        stream_id: stream_id_of(arrival),
        event_type: &metadata.event_type,
        aggregate_id: metadata.aggregate_id,
        correlation_id: metadata.correlation_id.as_deref(),
        causation_id: metadata.causation_id.as_deref(),
        occurred_on: metadata.occurred_on.timestamp_micros(),
        payload: arrival.payload.as_str(),
        headers: headers_of(metadata),
        raw: arrival.raw.as_deref().map(hex),
        status: status.as_str(),
        max_retries: arrival.max_retries,
        next_retry_at,
        error_message,
    }
}

/// Writes claims for the statements that name them.
pub(super) fn leases_json(leases: &[Lease]) -> Result<String, sqlx::Error> {
    #[derive(Serialize)]
    struct Claim {
        id: Uuid,
        token: i64,
    }

    let claims: Vec<Claim> = leases
        .iter()
        .map(|&Lease { id, token }| Claim { id, token })
        .collect();
    json(&claims)
}

/// Writes settlements for the statement that applies them.
pub(super) fn settlements_json(settlements: &[Settlement]) -> Result<String, sqlx::Error> {
    #[derive(Serialize)]
    struct Settled {
        id: Uuid,
        token: i64,
        status: &'static str,
        retry_count: i32,
        delay: i64,
        error_message: Option<String>,
    }

    let settled: Vec<Settled> = settlements
        .iter()
        .map(|settlement| Settled {
            id: settlement.lease.id,
            token: settlement.lease.token,
            status: settlement.status.as_str(),
            retry_count: settlement.retry_count,
            delay: micros(settlement.delay),
            error_message: settlement.error_message.as_deref().map(storable),
        })
        .collect();
    json(&settled)
}

/// Writes a list for `json_each`.
pub(super) fn json<T: Serialize>(values: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A duration in the unit of the table; no duration of ours comes near the end of the range.
pub(super) fn micros(duration: Duration) -> i64 {
    /// A thousand years: keeps sums with today's date inside the column.
    const LONGEST: i64 = 1000 * 366 * 24 * 3600 * 1_000_000;
    i64::try_from(duration.as_micros())
        .unwrap_or(LONGEST)
        .min(LONGEST)
}

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

fn uuid(row: &SqliteRow, index: usize) -> Result<Uuid, sqlx::Error> {
    let text: &str = row.try_get(index)?;
    Uuid::parse_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Reads a time of the table.
pub(super) fn time(micros: i64) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| sqlx::Error::Decode("a time is out of range".into()))
}

/// Writes bytes for `unhex`.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing into a `String` does not fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
