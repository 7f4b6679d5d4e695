//! An event as both databases give it back.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    database::columns::traceparent_in,
    envelope::{Envelope, Metadata, Payload},
};

/// How long the id of an entry may be, in characters.
const MAX_ENTRY_CHARS: usize = 255;

/// The columns that make an event.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) aggregate_id: Uuid,
    pub(super) correlation_id: Option<String>,
    pub(super) causation_id: Option<String>,
    pub(super) occurred_on: DateTime<Utc>,
    pub(super) payload: String,
    pub(super) headers: Option<String>,
}

impl Record {
    pub(super) fn into_envelope(self) -> Envelope {
        let metadata = Metadata {
            event_id: self.event_id,
            event_type: self.event_type,
            aggregate_id: self.aggregate_id,
            occurred_on: self.occurred_on,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            traceparent: traceparent_in(self.headers.as_deref()),
            stream_id: None,
            attempt: 1,
        };
        Envelope::from_parts(metadata, Payload::from_checked(self.payload))
    }
}

/// The id of an entry as its column takes it: an event that is published is marked, whatever id a sink
/// of the user's has given.
pub(super) fn entry(id: &str) -> String {
    id.replace('\0', "\u{fffd}")
        .chars()
        .take(MAX_ENTRY_CHARS)
        .collect()
}
