//! What the columns hold, the same in both databases.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Admission, Arrival, Status};
use crate::envelope::Metadata;

/// Every column that the statements of either database name.
pub(crate) const COLUMNS: [&str; 24] = [
    "id",
    "event_id",
    "stream_id",
    "event_type",
    "aggregate_id",
    "correlation_id",
    "occurred_on",
    "payload",
    "status",
    "retry_count",
    "max_retries",
    "received_at",
    "processed_at",
    "next_retry_at",
    "error_message",
    "last_error_at",
    "causation_id",
    "headers",
    "raw",
    "consumer",
    "locked_by",
    "locked_until",
    "lock_token",
    "recovering",
];

/// The columns of an arrival that are not its event's own.
pub(crate) struct Entering<'a> {
    pub(crate) status: Status,
    /// It has no next run until it is unparked.
    pub(crate) is_parked: bool,
    pub(crate) error_message: Option<Cow<'a, str>>,
    pub(crate) headers: Option<String>,
    /// Never null: Python writes the empty text.
    pub(crate) stream_id: &'a str,
}

impl<'a> Entering<'a> {
    /// What an arrival enters with; one to run enters as `run_as`.
    pub(crate) fn of(arrival: &'a Arrival, run_as: Status) -> Self {
        let metadata = arrival.envelope.metadata();
        let (status, error_message) = match &arrival.admission {
            Admission::Run => (run_as, None),
            Admission::Wait | Admission::Park => (Status::Pending, None),
            Admission::DeadLetter(reason) => (Status::DeadLetter, Some(storable(reason))),
        };
        Self {
            status,
            is_parked: arrival.admission == Admission::Park,
            error_message,
            headers: headers_of(metadata),
            stream_id: metadata.stream_id.as_deref().unwrap_or_default(),
        }
    }
}

/// Column `headers`: what travels beside the event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// Writes column `headers`; `None` if there is nothing to write.
fn headers_of(metadata: &Metadata) -> Option<String> {
    let traceparent = Some(metadata.traceparent.clone()?);
    serde_json::to_string(&Headers { traceparent }).ok()
}

/// Reads the trace context in column `headers`.
pub(crate) fn traceparent_in(headers: Option<&str>) -> Option<String> {
    let headers: Headers = serde_json::from_str(headers?).ok()?;
    headers.traceparent
}

/// Replaces NUL, which Postgres's text cannot hold, so that both databases store the same.
pub(crate) fn storable(message: &str) -> Cow<'_, str> {
    if message.contains('\0') {
        Cow::Owned(message.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(message)
    }
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
