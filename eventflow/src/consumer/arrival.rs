//! What becomes of an entry as it arrives: a row to run, a row to keep, or a count.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    outcome::message,
    settings::{Settings, UnknownEvents},
};
use crate::{
    envelope::{Envelope, Metadata, Payload, wire},
    inbox::{Admission, Arrival},
    router::{Route, Routes},
    stream::Entry,
};

/// The longest entry, in bytes, of which a dead letter holds them all.
const WHOLE: usize = 16 * 1024 * 1024;

/// How many bytes it holds of a longer one, which no statement could carry.
const BEGINNING: usize = 64 * 1024;

/// What an entry turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event to run.
    Event,
    /// No readable envelope, or nothing that the database takes.
    Malformed,
    /// An event that the router ignores.
    Ignored,
    /// An event whose type the router does not know.
    Unknown,
}

/// What an entry's row is to hold.
#[derive(Debug)]
pub(super) enum Content {
    Event(Arrival),
    /// The entry's bytes, which are copied only while they are stored, and why.
    Malformed(String),
}

/// Decides what becomes of an entry; one with no content is acknowledged without a row. `row` is the
/// row's id, and `admission` how an event with a handler enters.
pub(super) fn admit(
    row: Uuid,
    entry: &Entry,
    admission: &Admission,
    settings: &Settings,
    routes: &Routes,
) -> (Kind, Option<Content>) {
    let envelope = match wire::read(entry, settings.limits) {
        Ok(envelope) => envelope,
        Err(malformed) => {
            let content = Content::Malformed(malformed.to_string());
            return (Kind::Malformed, Some(content));
        }
    };
    let metadata = envelope.metadata();
    let (kind, admission) = match routes.route(&metadata.event_type) {
        Route::Handler(_) => (Kind::Event, admission.clone()),
        Route::Ignored => return (Kind::Ignored, None),
        Route::Unknown => {
            let admission = match settings.unknown_events {
                UnknownEvents::DeadLetter => {
                    Admission::DeadLetter(unknown_reason(&metadata.event_type))
                }
                UnknownEvents::Leave => Admission::Park,
                UnknownEvents::Ignore => return (Kind::Unknown, None),
            };
            (Kind::Unknown, admission)
        }
    };
    let arrival = Arrival {
        id: row,
        envelope,
        raw: None,
        admission,
        max_retries: settings.max_retries,
    };
    (kind, Some(Content::Event(arrival)))
}

/// Why an event of an unknown type is kept.
pub(super) fn unknown_reason(event_type: &str) -> String {
    format!("no handler for events of type `{event_type}`")
}

/// A dead letter that holds the entry's bytes; of a huge entry, the first of them.
///
/// Its event id is the entry's, never one that the entry names: a corrected event is no duplicate
/// of it.
pub(super) fn quarantine(row: Uuid, entry: &Entry, reason: &str) -> Arrival {
    let event_type = wire::event_type_hint(entry).unwrap_or_else(|| "malformed".to_owned());
    let metadata = Metadata {
        event_id: name_of(entry),
        event_type,
        aggregate_id: Uuid::nil(),
        occurred_on: entry_time(&entry.id.id).unwrap_or_else(Utc::now),
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        stream_id: Some(entry.id.id.clone()),
        attempt: 1,
    };
    let mut raw = wire::beginning(entry, WHOLE + 1);
    let mut reason = reason.to_owned();
    if raw.len() > WHOLE {
        let bytes = entry.bytes();
        reason = format!("{reason}; of the entry's {bytes} bytes the first {BEGINNING} are kept");
        raw.truncate(BEGINNING);
        raw.shrink_to_fit();
    }
    Arrival {
        id: row,
        envelope: Envelope::from_parts(metadata, Payload::empty()),
        raw: Some(raw),
        admission: Admission::DeadLetter(message(&reason)),
        max_retries: 0,
    }
}

/// The event id of a dead letter: the stream and the entry's own id, of long ones their end.
fn name_of(entry: &Entry) -> String {
    let name = format!("{}/{}", entry.id.stream, entry.id.id);
    let room = wire::MAX_ID_CHARS - wire::MALFORMED.len();
    let beyond = name.chars().count().saturating_sub(room);
    let end: String = name.chars().skip(beyond).collect();
    format!("{}{end}", wire::MALFORMED)
}

/// The time in an entry id such as `1700000000000-0`.
fn entry_time(id: &str) -> Option<DateTime<Utc>> {
    let (milliseconds, _) = id.split_once('-')?;
    DateTime::from_timestamp_millis(milliseconds.parse().ok()?)
}
