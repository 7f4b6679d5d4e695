//! Batches on their way into a statement: one JSON array each, which the database takes apart.

use std::borrow::Cow;

use serde::Serialize;
use uuid::Uuid;

use super::{
    Statement,
    sql::{Sql, Statements},
    statement,
};
use crate::inbox::{
    Arrival, Holder, Lease, Settlement, Status,
    columns::{Entering, micros, storable},
};

/// An arrival as the insert statement reads it.
#[derive(Serialize)]
struct ArrivalRecord<'a> {
    id: Uuid,
    event_id: &'a str,
    stream_id: &'a str,
    event_type: &'a str,
    aggregate_id: Uuid,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    occurred_on: i64,
    payload: &'a str,
    headers: Option<String>,
    raw: Option<String>,
    status: &'static str,
    is_parked: bool,
    max_retries: i32,
    error_message: Option<Cow<'a, str>>,
}

/// Writes a batch of arrivals, in which those to run enter as `run_as`.
fn arrivals_json(arrivals: &[Arrival], run_as: Status) -> Result<String, sqlx::Error> {
    let records: Vec<ArrivalRecord<'_>> = arrivals
        .iter()
        .map(|arrival| arrival_record(arrival, run_as))
        .collect();
    json(&records)
}

fn arrival_record(arrival: &Arrival, run_as: Status) -> ArrivalRecord<'_> {
    let metadata = arrival.envelope.metadata();
    let Entering {
        status,
        is_parked,
        error_message,
        headers,
        stream_id,
    } = Entering::of(arrival, run_as);
    ArrivalRecord {
        id: arrival.id,
        event_id: &metadata.event_id,
        stream_id,
        event_type: &metadata.event_type,
        aggregate_id: metadata.aggregate_id,
        correlation_id: metadata.correlation_id.as_deref(),
        causation_id: metadata.causation_id.as_deref(),
        occurred_on: metadata.occurred_on.timestamp_micros(),
        payload: arrival.envelope.payload().as_str(),
        headers,
        raw: arrival.raw.as_deref().map(hex),
        status: status.as_str(),
        is_parked,
        max_retries: arrival.max_retries,
        error_message,
    }
}

/// The statement that inserts a batch, in which those to run enter as `run_as`.
pub(super) fn insert(
    statements: &Statements,
    holder: &Holder,
    arrivals: &[Arrival],
    run_as: Status,
) -> Result<Statement, sqlx::Error> {
    Ok(statement(&statements.insert)
        .bind(arrivals_json(arrivals, run_as)?)
        .bind(holder.consumer.clone())
        .bind(holder.name.clone())
        .bind(micros(holder.lease)))
}

/// The statement that settles rows, or amends them.
pub(super) fn settle(
    sql: &Sql,
    holder: &Holder,
    settlements: &[Settlement],
) -> Result<Statement, sqlx::Error> {
    Ok(statement(sql)
        .bind(settlements_json(settlements)?)
        .bind(holder.name.clone())
        .bind(micros(holder.lease)))
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
fn settlements_json(settlements: &[Settlement]) -> Result<String, sqlx::Error> {
    #[derive(Serialize)]
    struct Settled<'a> {
        id: Uuid,
        token: i64,
        status: &'static str,
        retry_count: i32,
        delay: i64,
        error_message: Option<Cow<'a, str>>,
    }

    let settled: Vec<Settled<'_>> = settlements
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
pub(super) fn json<T: Serialize>(values: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()))
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
