//! From an entry to an envelope.

use std::{borrow::Cow, fmt};

use memchr::memchr;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    BESIDE_PAYLOAD, Limits, MAX_PAYLOAD_DEPTH, MAX_TYPE_CHARS, Malformed,
    depth::nests_within,
    fields::{
        check_event_id, check_payload_depth, check_payload_size, check_required_text, check_size,
        is_traceparent, optional_id, time, uuid,
    },
};
use crate::{
    envelope::{Envelope, Metadata, Payload},
    stream::Entry,
};

/// The members of an event on the wire, in the order in which errors name them.
pub(super) const MEMBERS: [&str; 8] = [
    "event_id",
    "event_type",
    "aggregate_id",
    "occurred_on",
    "payload",
    "correlation_id",
    "causation_id",
    "traceparent",
];

/// Reads the event of an entry, in either style.
///
/// # Errors
/// If the entry holds no readable event; the error names the field and what is wrong with it.
pub fn read(entry: &Entry, limits: Limits) -> Result<Envelope, Malformed> {
    if entry.fields.is_empty() {
        return Err(Malformed::entry("the entry has no fields"));
    }
    let mut members = match field(entry, "data")? {
        Some(data) => {
            let mut members = Members::of_data(data, limits)?;
            members.add_names_beside_data(entry)?;
            members
        }
        None => Members::of_fields(entry)?,
    };

    let event_id = members.required("event_id")?;
    check_event_id(&event_id)?;
    let event_type = members.required("event_type")?;
    check_required_text("event_type", &event_type, MAX_TYPE_CHARS)?;
    let aggregate_id = uuid("aggregate_id", &members.required("aggregate_id")?)?;
    let occurred_on = time("occurred_on", &members.required("occurred_on")?)?;
    let payload = members.payload(limits)?;
    let correlation_id = optional_id("correlation_id", members.optional("correlation_id")?)?;
    let causation_id = optional_id("causation_id", members.optional("causation_id")?)?;
    let traceparent = members.traceparent(entry);

    let metadata = Metadata {
        event_id: event_id.into_owned(),
        event_type: event_type.into_owned(),
        aggregate_id,
        occurred_on,
        correlation_id,
        causation_id,
        traceparent,
        stream_id: Some(entry.id.id.clone()),
        attempt: 1,
    };
    Ok(Envelope::from_parts(metadata, payload))
}

/// Up to which size unreadable `data` is looked into for the event's type.
const LONGEST_LOOKED_INTO: usize = 16 * 1024 * 1024;

/// The event type that an unreadable entry names, as far as one can be made out.
pub(crate) fn event_type_hint(entry: &Entry) -> Option<String> {
    let of_data = |data| {
        let limits = Limits::default().payload_bytes(LONGEST_LOOKED_INTO);
        Members::of_data(data, limits)
            .ok()?
            .required("event_type")
            .ok()
    };
    let inside = field(entry, "data").ok().flatten().and_then(of_data);
    let name = match inside {
        Some(name) => name,
        None => field(entry, "event_type").ok()??.into(),
    };
    let cut: String = name.chars().take(MAX_TYPE_CHARS).collect();
    Some(cut).filter(|name| check_required_text("event_type", name, MAX_TYPE_CHARS).is_ok())
}

/// The text of a field; `None` if the entry has none of this name.
fn field<'a>(entry: &'a Entry, name: &'static str) -> Result<Option<&'a str>, Malformed> {
    let mut values = entry
        .fields
        .iter()
        .filter(|(field, _)| field == name.as_bytes())
        .map(|(_, value)| value);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Malformed::field(name, "appears twice"));
    }
    let text = std::str::from_utf8(value).map_err(|error| {
        Malformed::field(
            name,
            format!("is not UTF-8 from byte {}", error.valid_up_to()),
        )
    })?;
    Ok(Some(text))
}

/// The members of one event, not yet checked.
struct Members<'a> {
    values: [Option<Member<'a>>; MEMBERS.len()],
}

#[derive(Clone, Copy)]
enum Member<'a> {
    /// A field of the entry.
    Text(&'a str),
    /// JSON text inside `data`.
    Json(&'a str),
}

impl<'a> Members<'a> {
    fn of_fields(entry: &'a Entry) -> Result<Self, Malformed> {
        let mut values = [None; MEMBERS.len()];
        for (value, name) in values.iter_mut().zip(MEMBERS) {
            *value = match field(entry, name) {
                Ok(text) => text.map(Member::Text),
                // Only what is read can be wrong, and a bad trace context is none.
                Err(_) if name == "traceparent" => None,
                Err(error) => return Err(error),
            };
        }
        Ok(Self { values })
    }

    fn of_data(data: &'a str, limits: Limits) -> Result<Self, Malformed> {
        let longest = limits.payload_bytes.saturating_add(BESIDE_PAYLOAD);
        check_size("data", data.len(), longest)?;
        if data.starts_with('\u{feff}') {
            return Err(Malformed::field(
                "data",
                "begins with a byte order mark; write JSON without one",
            ));
        }
        match json_kind(data) {
            Kind::Object => {}
            Kind::Nothing => return Err(Malformed::field("data", "is empty")),
            Kind::Other => return Err(Malformed::field("data", "is not JSON")),
            other => {
                return Err(Malformed::field(
                    "data",
                    format!("is {other}, not an object"),
                ));
            }
        }
        if !nests_within(data, MAX_PAYLOAD_DEPTH + 1) {
            return Err(Malformed::field(
                "data",
                format!("nests deeper than {} levels", MAX_PAYLOAD_DEPTH + 1),
            ));
        }
        let DataMembers { values, repeated } = serde_json::from_str(data)
            .map_err(|error| Malformed::field("data", format!("is not JSON: {error}")))?;
        if let Some(member) = repeated {
            return Err(Malformed::field(member, "appears twice"));
        }
        Ok(Self { values })
    }

    /// A producer may name the event in fields of their own, so that others need not parse `data`.
    fn add_names_beside_data(&mut self, entry: &'a Entry) -> Result<(), Malformed> {
        for (value, name) in self.values.iter_mut().zip(["event_id", "event_type"]) {
            if value.is_none_or(Member::is_null) {
                *value = field(entry, name)?.map(Member::Text);
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &'static str) -> Option<Member<'a>> {
        let place = MEMBERS.iter().position(|member| *member == name)?;
        self.values.get_mut(place)?.take()
    }

    fn optional(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, Malformed> {
        match self.take(name) {
            None => Ok(None),
            Some(Member::Text(text)) => Ok(Some(text.into())),
            Some(Member::Json(json)) => match json_kind(json) {
                Kind::Null => Ok(None),
                Kind::String => match without_escape(json) {
                    Some(text) => Ok(Some(text.into())),
                    None => serde_json::from_str(json)
                        .map(|text: String| Some(text.into()))
                        .map_err(|_| {
                            Malformed::field(name, "holds an escape that is no character")
                        }),
                },
                other => Err(Malformed::field(name, format!("is {other}, not a string"))),
            },
        }
    }

    fn required(&mut self, name: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.optional(name)?
            .ok_or_else(|| Malformed::field(name, "is missing"))
    }

    fn payload(&mut self, limits: Limits) -> Result<Payload, Malformed> {
        let text = match self.take("payload") {
            None => return Ok(Payload::empty()),
            // `data` was parsed and measured as a whole.
            Some(Member::Json(text)) => {
                check_payload_size(text, limits)?;
                text
            }
            Some(Member::Text(text)) => {
                check_payload_size(text, limits)?;
                check_payload_depth(text)?;
                let parsed: &RawValue = serde_json::from_str(text).map_err(|error| {
                    Malformed::field("payload", format!("is not JSON: {error}"))
                })?;
                parsed.get()
            }
        };
        match json_kind(text) {
            Kind::Object => Ok(Payload::from_checked(text)),
            Kind::Null => Ok(Payload::empty()),
            other => Err(Malformed::field(
                "payload",
                format!("is {other}, not an object"),
            )),
        }
    }

    fn traceparent(&mut self, entry: &Entry) -> Option<String> {
        let text = match self.optional("traceparent") {
            Ok(None) => return None,
            Ok(Some(text)) => Some(text),
            Err(_) => None,
        };
        let valid = text.filter(|text| is_traceparent(text));
        if valid.is_none() {
            tracing::debug!(
                stream = %entry.id.stream,
                entry = %entry.id.id,
                "the entry's traceparent is no W3C trace context; leaving it out",
            );
        }
        valid.map(Cow::into_owned)
    }
}

/// What a JSON string says, if it has no escape.
fn without_escape(json: &str) -> Option<&str> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    memchr(b'\\', text.as_bytes()).is_none().then_some(text)
}

impl Member<'_> {
    fn is_null(self) -> bool {
        matches!(self, Self::Json(json) if json_kind(json) == Kind::Null)
    }
}

/// What JSON text begins as; whether it is JSON at all is the parser's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
    Other,
}

fn json_kind(text: &str) -> Kind {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let begin = text.bytes().take_while(|byte| is_space(byte)).count();
    match text.as_bytes().get(begin..).unwrap_or_default() {
        [] => Kind::Nothing,
        [b'n', b'u', b'l', b'l', ..] => Kind::Null,
        [b't', b'r', b'u', b'e', ..] | [b'f', b'a', b'l', b's', b'e', ..] => Kind::Boolean,
        [b'-' | b'0'..=b'9', ..] => Kind::Number,
        [b'"', ..] => Kind::String,
        [b'[', ..] => Kind::Array,
        [b'{', ..] => Kind::Object,
        _ => Kind::Other,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
            Self::Other => "no JSON",
        })
    }
}

/// The members of `data` as JSON text, so that each can be checked under its own name.
struct DataMembers<'a> {
    values: [Option<Member<'a>>; MEMBERS.len()],
    repeated: Option<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for DataMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = DataMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = DataMembers {
            values: [None; MEMBERS.len()],
            repeated: None,
        };
        while let Some(Key(place)) = map.next_key()? {
            let slot = place.and_then(|place| members.values.get_mut(place));
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &RawValue = map.next_value()?;
            if slot.replace(Member::Json(value.get())).is_some() {
                members.repeated = place.and_then(|place| MEMBERS.get(place)).copied();
            }
        }
        Ok(members)
    }
}

/// The place of a member in [`MEMBERS`]; `None` for names that are ignored.
struct Key(Option<usize>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(Key(MEMBERS.iter().position(|member| *member == name)))
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}
