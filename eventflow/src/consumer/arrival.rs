//! What becomes of an entry as it arrives: a row to run, a row to keep, or a count.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    outcome::message,
    report::Counters,
    settings::{Settings, UnknownEvents},
};
use crate::{
    envelope::{Metadata, Payload, wire},
    inbox::{Admission, Arrival},
    router::{Route, Routes},
    stream::Entry,
};

/// The longest entry, in bytes, of which a dead letter holds them all.
const WHOLE: usize = 16 * 1024 * 1024;

/// How many bytes it holds of a longer one, which no statement could carry.
const BEGINNING: usize = 64 * 1024;

/// Decides what becomes of an entry; `None` is acknowledged without a row.
pub(super) fn admit(
    entry: &Entry,
    settings: &Settings,
    routes: &Routes,
    counters: &Counters,
) -> Option<Arrival> {
    let envelope = match wire::read(entry, settings.limits) {
        Ok(envelope) => envelope,
        Err(malformed) => {
            counters.malformed.one();
            let reason = malformed.to_string();
            tracing::warn!(
                stream = %entry.id.stream,
                entry_id = entry.id.id,
                reason,
                "entry has no readable envelope; kept as a dead letter"
            );
            return Some(quarantine(entry, &reason));
        }
    };
    let (metadata, payload) = envelope.into_parts();
    let admission = match routes.route(&metadata.event_type) {
        Route::Handler(_) => Admission::Run,
        Route::Ignored => {
            counters.ignored.one();
            return None;
        }
        Route::Unknown => {
            counters.unknown.one();
            let event_type = &metadata.event_type;
            tracing::warn!(
                event_id = metadata.event_id,
                event_type,
                policy = ?settings.unknown_events,
                "no handler for events of this type"
            );
            match settings.unknown_events {
                UnknownEvents::DeadLetter => Admission::DeadLetter(unknown_reason(event_type)),
                UnknownEvents::Leave => Admission::Park,
                UnknownEvents::Ignore => return None,
            }
        }
    };
    Some(Arrival {
        metadata,
        payload,
        raw: None,
        admission,
        max_retries: settings.max_retries,
    })
}

/// Why an event of an unknown type is kept.
pub(super) fn unknown_reason(event_type: &str) -> String {
    format!("no handler for events of type `{event_type}`")
}

/// A dead letter that holds the entry's bytes; of a huge entry, the first of them.
///
/// Its event id is the entry's, never one that the entry names: a corrected event is no duplicate
/// of it.
pub(super) fn quarantine(entry: &Entry, reason: &str) -> Arrival {
    let event_type = wire::event_type_hint(entry).unwrap_or_else(|| "malformed".to_owned());
    let metadata = Metadata {
        event_id: format!("malformed:{}/{}", entry.id.stream, entry.id.id),
        event_type,
        aggregate_id: Uuid::nil(),
        occurred_on: entry_time(&entry.id.id).unwrap_or_else(Utc::now),
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        stream_id: Some(entry.id.id.clone()),
        attempt: 1,
    };
    let mut raw = wire::raw(entry);
    let mut reason = reason.to_owned();
    if raw.len() > WHOLE {
        let bytes = raw.len();
        reason = format!("{reason}; of the entry's {bytes} bytes the first {BEGINNING} are kept");
        raw.truncate(BEGINNING);
        raw.shrink_to_fit();
    }
    Arrival {
        metadata,
        payload: Payload::empty(),
        raw: Some(raw),
        admission: Admission::DeadLetter(message(&reason)),
        max_retries: 0,
    }
}

/// The time in an entry id such as `1700000000000-0`.
fn entry_time(id: &str) -> Option<DateTime<Utc>> {
    let (milliseconds, _) = id.split_once('-')?;
    DateTime::from_timestamp_millis(milliseconds.parse().ok()?)
}
