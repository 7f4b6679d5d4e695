//! Entries of a stream: both styles in, the `data` style out.
//!
//! An entry has one of two styles:
//!
//! - *data*: a field `data` holds one JSON object with the members below. If it names no
//!   `event_id` or `event_type`, fields of these names beside `data` count.
//! - *flattened*: every member is a field of the entry; `payload` is JSON text, all others are
//!   plain text.
//!
//! | member | | value |
//! | --- | --- | --- |
//! | `event_id` | required | text of 1 to 255 characters that does not begin with `malformed:` |
//! | `event_type` | required | text of 1 to 128 characters |
//! | `aggregate_id` | required | a UUID |
//! | `occurred_on` | required | a date and time with offset, as in RFC 3339; years 1 to 9999 |
//! | `payload` | optional | a JSON object, kept as it came; absent or `null` is `{}` |
//! | `correlation_id`, `causation_id` | optional | text of at most 255 characters |
//! | `traceparent` | optional | a W3C trace context; a bad one is left out |
//!
//! In the data style all but `payload` are JSON strings: a number as `event_id` is malformed. An
//! optional member that is `null` or empty counts as absent, members of other names are ignored,
//! and a member that appears twice is malformed. Text never holds a NUL, which the inbox's columns
//! cannot. `occurred_on` keeps microseconds, which is what the inbox's columns keep.
//!
//! Whether a payload is what a handler expects is [`event`](crate::event)'s business, what becomes
//! of a malformed entry the [`inbox`](crate::inbox)'s.

mod depth;
mod fields;
mod malformed;
mod raw;
mod read;
mod write;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod properties;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::fields::is_traceparent;
pub(crate) use self::{fields::check_year, raw::beginning, read::event_type_hint, write::check};
pub use self::{
    malformed::Malformed,
    raw::{raw, restore},
    read::read,
    write::write,
};

/// How the event id begins of the dead letter that keeps a malformed entry. No event's does.
pub const MALFORMED: &str = "malformed:";

/// How long an event id, a correlation id or a causation id may be, in characters.
pub const MAX_ID_CHARS: usize = 255;

/// How long an event type may be, in characters.
pub const MAX_TYPE_CHARS: usize = 128;

/// How deep a payload may nest: as deep as serde reads a typed struct from it.
pub const MAX_PAYLOAD_DEPTH: usize = 127;

/// What `data` may hold beside the payload, in bytes.
const BESIDE_PAYLOAD: usize = 64 * 1024;

/// How large an entry may be.
///
/// Lengths of ids and the depth of payloads are fixed: [`MAX_ID_CHARS`], [`MAX_TYPE_CHARS`],
/// [`MAX_PAYLOAD_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    payload_bytes: usize,
}

impl Limits {
    /// Limits the JSON text of a payload to this many bytes. Default: 1 MiB.
    ///
    /// The whole field `data` may be 64 KiB longer.
    #[must_use]
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    pub(crate) fn largest_payload(self) -> usize {
        self.payload_bytes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 1024 * 1024,
        }
    }
}
