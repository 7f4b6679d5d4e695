//! Values as columns hold them, the same in both databases.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::envelope::{Metadata, wire};

/// Column `headers`: what travels beside the event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// Writes column `headers`; `None` if there is nothing to write.
pub(crate) fn headers_of(metadata: &Metadata) -> Option<String> {
    let traceparent = metadata.traceparent.clone();
    let traceparent = Some(traceparent.filter(|text| wire::is_traceparent(text))?);
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
