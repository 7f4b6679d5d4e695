//! From an envelope to an entry of the data style.

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Limits, MAX_ID_CHARS, MAX_TYPE_CHARS,
    fields::{
        check_event_id, check_payload_depth, check_payload_size, check_required_text, check_text,
        check_year, is_traceparent,
    },
};
use crate::{
    envelope::{Envelope, Metadata},
    error::{BoxError, Error, ErrorKind},
};

/// Writes an envelope as the fields of an entry: one field, `data`, that holds JSON.
///
/// The time is written with six digits of microseconds, which every reader knows.
///
/// # Errors
/// If the envelope breaks a limit, so that [`read`](super::read) would refuse the entry.
pub fn write(envelope: &Envelope, limits: Limits) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let json = json(envelope, limits).map_err(|source| {
        // The id may itself be what breaks a limit.
        let event_type: String = envelope.metadata().event_type.chars().take(64).collect();
        Error::new(
            ErrorKind::Encode,
            format!("event `{event_type}` cannot be written as an entry"),
        )
        .with_source(source)
    })?;
    Ok(vec![(b"data".to_vec(), json)])
}

fn json(envelope: &Envelope, limits: Limits) -> Result<Vec<u8>, BoxError> {
    check(envelope, limits)?;
    let payload = serde_json::from_str(envelope.payload().as_str())?;
    Ok(serde_json::to_vec(&Data::new(
        envelope.metadata(),
        payload,
    ))?)
}

/// Checks that an envelope can be written as an entry.
///
/// # Errors
/// If it breaks a limit.
pub(crate) fn check(envelope: &Envelope, limits: Limits) -> Result<(), BoxError> {
    let metadata = envelope.metadata();
    let payload = envelope.payload().as_str();
    check_event_id(&metadata.event_id)?;
    check_required_text("event_type", &metadata.event_type, MAX_TYPE_CHARS)?;
    check_year("occurred_on", &metadata.occurred_on)?;
    for (field, id) in [
        ("correlation_id", &metadata.correlation_id),
        ("causation_id", &metadata.causation_id),
    ] {
        if let Some(id) = id {
            check_text(field, id, MAX_ID_CHARS)?;
        }
    }
    check_payload_size(payload, limits)?;
    check_payload_depth(payload)?;
    Ok(())
}

#[derive(Serialize)]
struct Data<'a> {
    event_id: &'a str,
    event_type: &'a str,
    aggregate_id: Uuid,
    occurred_on: String,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

impl<'a> Data<'a> {
    fn new(metadata: &'a Metadata, payload: &'a RawValue) -> Self {
        Self {
            event_id: &metadata.event_id,
            event_type: &metadata.event_type,
            aggregate_id: metadata.aggregate_id,
            occurred_on: metadata
                .occurred_on
                .to_rfc3339_opts(SecondsFormat::Micros, false),
            payload,
            correlation_id: metadata.correlation_id.as_deref(),
            causation_id: metadata.causation_id.as_deref(),
            traceparent: metadata
                .traceparent
                .as_deref()
                .filter(|text| is_traceparent(text)),
        }
    }
}
