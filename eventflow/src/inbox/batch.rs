//! Batches on their way into a statement: one JSON array each, which the database takes apart.
//!
//! Both databases read the same text, so one parameter carries any number of rows.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::inbox::{
    Admission, Arrival, Lease, Settlement, Status,
    record::{headers_of, storable, stream_id_of},
};

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
    error_message: Option<String>,
}

/// Writes a batch of arrivals. A payload that is not for the column is kept as bytes.
pub(crate) fn arrivals_json(
    arrivals: &[Arrival],
    refused: fn(&str) -> bool,
) -> Result<String, sqlx::Error> {
    let records: Vec<ArrivalRecord<'_>> = arrivals
        .iter()
        .map(|arrival| arrival_record(arrival, refused))
        .collect();
    json(&records)
}

fn arrival_record(arrival: &Arrival, refused: fn(&str) -> bool) -> ArrivalRecord<'_> {
    let metadata = &arrival.metadata;
    let (status, error_message) = match &arrival.admission {
        Admission::Run => (Status::Processing, None),
        Admission::Park => (Status::Pending, None),
        Admission::DeadLetter(reason) => (Status::DeadLetter, Some(storable(reason))),
    };
    let payload = arrival.payload.as_str();
    let (payload, raw) = match &arrival.raw {
        None if refused(payload) => ("{}", Some(payload.as_bytes())),
        raw => (payload, raw.as_deref()),
    };
    ArrivalRecord {
        id: arrival.id,
        event_id: &metadata.event_id,
        stream_id: stream_id_of(arrival),
        event_type: &metadata.event_type,
        aggregate_id: metadata.aggregate_id,
        correlation_id: metadata.correlation_id.as_deref(),
        causation_id: metadata.causation_id.as_deref(),
        occurred_on: metadata.occurred_on.timestamp_micros(),
        payload,
        headers: headers_of(metadata),
        raw: raw.map(hex),
        status: status.as_str(),
        max_retries: arrival.max_retries,
        error_message,
    }
}

/// Writes claims for the statements that name them.
pub(crate) fn leases_json(leases: &[Lease]) -> Result<String, sqlx::Error> {
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
pub(crate) fn settlements_json(settlements: &[Settlement]) -> Result<String, sqlx::Error> {
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

/// Writes a list as a JSON array.
pub(crate) fn json<T: Serialize>(values: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A duration in the unit of the table; no duration of ours comes near the end of the range.
pub(crate) fn micros(duration: Duration) -> i64 {
    /// A thousand years: keeps sums with today's date inside the column.
    const LONGEST: i64 = 1000 * 366 * 24 * 3600 * 1_000_000;
    i64::try_from(duration.as_micros())
        .unwrap_or(LONGEST)
        .min(LONGEST)
}

/// A wait that the database has told, in the unit of the table.
pub(crate) fn from_micros(wait: i64) -> Duration {
    Duration::from_micros(u64::try_from(wait).unwrap_or(0))
}

/// Writes bytes as text.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        text.push(hex_digit(byte >> 4));
        text.push(hex_digit(byte & 0xf));
    }
    text
}

/// The digit of a number below 16.
fn hex_digit(number: u8) -> char {
    char::from(match number {
        0..10 => b'0' + number,
        _ => b'a' - 10 + number,
    })
}
