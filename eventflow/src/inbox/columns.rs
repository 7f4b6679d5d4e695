//! What the inbox's columns hold, the same in both databases.

use std::borrow::Cow;

use super::{Admission, Arrival, Status};
use crate::database::columns::{headers_of, storable};

/// Every column that the statements of either database name.
pub(crate) const COLUMNS: [&str; 25] = [
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
    "position",
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
