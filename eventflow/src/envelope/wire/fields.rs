//! The checks of single fields, the same for both styles and for both directions.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use uuid::Uuid;

use super::{
    Limits, MALFORMED, MAX_ID_CHARS, MAX_PAYLOAD_DEPTH, Malformed, depth::nests_within,
    malformed::quoted,
};

/// Checks text that a column of `max_chars` characters takes.
pub(super) fn check_text(
    field: &'static str,
    text: &str,
    max_chars: usize,
) -> Result<(), Malformed> {
    if text.contains('\0') {
        return Err(Malformed::field(field, "holds a NUL character"));
    }
    let chars = text.chars().count();
    if chars > max_chars {
        return Err(Malformed::field(
            field,
            format!("has {chars} characters; the limit is {max_chars}"),
        ));
    }
    Ok(())
}

pub(super) fn check_required_text(
    field: &'static str,
    text: &str,
    max_chars: usize,
) -> Result<(), Malformed> {
    if text.is_empty() {
        return Err(Malformed::field(field, "is empty"));
    }
    check_text(field, text, max_chars)
}

/// The name of a malformed entry's dead letter is no event's: the one would keep the other out.
pub(super) fn check_event_id(text: &str) -> Result<(), Malformed> {
    const FIELD: &str = "event_id";

    check_required_text(FIELD, text, MAX_ID_CHARS)?;
    if text.starts_with(MALFORMED) {
        return Err(Malformed::field(
            FIELD,
            format!("begins with `{MALFORMED}`, as only those of malformed entries do"),
        ));
    }
    Ok(())
}

/// An empty id is no id: the flattened style cannot write `null`.
pub(super) fn optional_id(
    field: &'static str,
    text: Option<Cow<'_, str>>,
) -> Result<Option<String>, Malformed> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    check_text(field, &text, MAX_ID_CHARS)?;
    Ok(Some(text.into_owned()))
}

pub(super) fn uuid(field: &'static str, text: &str) -> Result<Uuid, Malformed> {
    Uuid::parse_str(text)
        .map_err(|_| Malformed::field(field, format!("{} is not a UUID", quoted(text))))
}

/// Reads a time and cuts it to microseconds, so that an event is the same fresh and from the table.
pub(super) fn time(field: &'static str, text: &str) -> Result<DateTime<Utc>, Malformed> {
    let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| {
        Malformed::field(
            field,
            format!(
                "{} is not a date and time with an offset, as in `2026-01-31T12:00:00+00:00`",
                quoted(text)
            ),
        )
    })?;
    // A leap second is carried over into the second that follows it; databases know no other.
    let is_leap_second = parsed.timestamp_subsec_nanos() >= 1_000_000_000;
    let time = DateTime::from_timestamp_micros(parsed.timestamp_micros())
        .filter(|time| !is_leap_second || time.timestamp() % 86_400 == 0)
        .ok_or_else(|| {
            Malformed::field(
                field,
                format!("{} is a time that does not exist", quoted(text)),
            )
        })?;
    check_year(field, &time)?;
    Ok(time)
}

pub(crate) fn check_year(field: &'static str, time: &DateTime<Utc>) -> Result<(), Malformed> {
    if (1..=9999).contains(&time.year()) {
        Ok(())
    } else {
        Err(Malformed::field(field, "is not in the years 1 to 9999"))
    }
}

pub(super) fn check_payload_size(text: &str, limits: Limits) -> Result<(), Malformed> {
    check_size("payload", text.len(), limits.payload_bytes)
}

pub(super) fn check_size(field: &'static str, bytes: usize, limit: usize) -> Result<(), Malformed> {
    if bytes > limit {
        return Err(Malformed::field(
            field,
            format!("is {bytes} bytes long; the limit is {limit}"),
        ));
    }
    Ok(())
}

pub(super) fn check_payload_depth(text: &str) -> Result<(), Malformed> {
    if nests_within(text, MAX_PAYLOAD_DEPTH) {
        Ok(())
    } else {
        Err(Malformed::field(
            "payload",
            format!("nests deeper than {MAX_PAYLOAD_DEPTH} levels"),
        ))
    }
}

/// Whether the text has the shape of a W3C trace context of any version.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let [Some(version), Some(trace), Some(span), Some(flags)] =
        [parts.next(), parts.next(), parts.next(), parts.next()]
    else {
        return false;
    };
    let is_hex = |part: &str, chars: usize| {
        part.len() == chars
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    // Version 00 has four parts; a later one may add some, which fit the column or are refused.
    let has_known_end = parts.next().is_none() || version != "00";
    is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2)
        && has_known_end
        && text.len() <= MAX_ID_CHARS
        && !text.contains('\0')
}
