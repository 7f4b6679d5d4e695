//! What holds for every entry and every envelope.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{Limits, raw, read, restore, write};
use crate::{
    envelope::{Envelope, Metadata, Payload},
    stream::{Entry, EntryId},
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn entry(fields: Fields) -> Entry {
    Entry {
        id: EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        },
        fields,
    }
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 1..=max).prop_map(|chars| {
        let text: String = chars
            .into_iter()
            .filter(|character| *character != '\0')
            .collect();
        if text.is_empty() {
            "x".to_owned()
        } else {
            text
        }
    })
}

fn time() -> impl Strategy<Value = DateTime<Utc>> {
    // The years 1 to 9999 in microseconds.
    (-62_135_596_800_000_000_i64..=253_402_300_799_999_999)
        .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
}

/// JSON text of an object, with the spaces and numbers that a rewriter would change.
fn payload() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-0.10e+2".to_owned()),
        "[1-9][0-9]{0,30}",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud83d""#.to_owned()),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" ,"))),
            vec(inner, 0..4).prop_map(|values| object(&values)),
        ]
    });
    vec(value, 0..4).prop_map(|values| object(&values))
}

fn object(values: &[String]) -> String {
    let members: Vec<_> = values
        .iter()
        .map(|value| format!(r#""k" : {value}"#))
        .collect();
    format!("{{{}}}", members.join(", "))
}

prop_compose! {
    fn envelope()(
        event_id in text(255),
        event_type in text(128),
        aggregate_id in any::<u128>().prop_map(Uuid::from_u128),
        occurred_on in time(),
        correlation_id in option::of(text(255)),
        causation_id in option::of(text(255)),
        trace in option::of((1_u128.., 1_u64.., any::<u8>())),
        payload in payload(),
    ) -> Envelope {
        let metadata = Metadata {
            event_id,
            event_type,
            aggregate_id,
            occurred_on,
            correlation_id,
            causation_id,
            traceparent: trace
                .map(|(trace, span, flags)| format!("00-{trace:032x}-{span:016x}-{flags:02x}")),
            stream_id: Some("1700000000000-0".to_owned()),
            attempt: 1,
        };
        Envelope::from_parts(metadata, Payload::from_checked(payload))
    }
}

fn flattened(envelope: &Envelope) -> Fields {
    let metadata = envelope.metadata();
    let mut fields = vec![
        ("event_id", metadata.event_id.clone()),
        ("event_type", metadata.event_type.clone()),
        ("aggregate_id", metadata.aggregate_id.to_string()),
        ("occurred_on", metadata.occurred_on.to_rfc3339()),
        ("payload", envelope.payload().as_str().to_owned()),
        ("unknown", "ignored".to_owned()),
    ];
    let optional = [
        ("correlation_id", &metadata.correlation_id),
        ("causation_id", &metadata.causation_id),
        ("traceparent", &metadata.traceparent),
    ];
    for (name, value) in optional {
        fields.extend(value.clone().map(|value| (name, value)));
    }
    fields
        .into_iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()))
        .collect()
}

/// Entries that come near to being events, and some that do not.
fn hostile_fields() -> impl Strategy<Value = Fields> {
    let bytes = || vec(any::<u8>(), 0..40);
    let name = prop_oneof![
        prop::sample::select(read::MEMBERS.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        Just(b"data".to_vec()),
        bytes(),
    ];
    let json = r#"[\{\}\[\]":,\\a-z0-9 u]{0,60}"#.prop_map(String::into_bytes);
    let value = prop_oneof![bytes(), json, payload().prop_map(String::into_bytes)];
    vec((name, value), 0..8)
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(envelope in envelope()) {
        let fields = write(&envelope, Limits::default()).unwrap();

        prop_assert_eq!(read(&entry(fields), Limits::default()), Ok(envelope));
    }

    #[test]
    fn a_flattened_event_is_the_same_event(envelope in envelope()) {
        let entry = entry(flattened(&envelope));

        prop_assert_eq!(read(&entry, Limits::default()), Ok(envelope));
    }

    #[test]
    fn every_entry_is_an_event_or_malformed_with_its_bytes_intact(fields in hostile_fields()) {
        let entry = entry(fields);

        match read(&entry, Limits::default()) {
            Ok(envelope) => prop_assert!(write(&envelope, Limits::default()).is_ok()),
            Err(malformed) => {
                prop_assert!(!malformed.to_string().is_empty());
                prop_assert_eq!(restore(&raw(&entry)), Some(entry.fields));
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_fields_or_nothing(bytes in vec(any::<u8>(), 0..60), sign in any::<bool>()) {
        let mut bytes = bytes;
        if sign {
            bytes.splice(0..0, *b"*2\r\n$");
        }
        if let Some(fields) = restore(&bytes) {
            prop_assert_eq!(restore(&raw(&entry(fields.clone()))), Some(fields));
        }
    }

    #[test]
    fn an_event_with_one_damaged_byte_never_panics(
        envelope in envelope(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut fields = write(&envelope, Limits::default()).unwrap();
        let place = place.index(fields[0].1.len());
        fields[0].1[place] = byte;
        let entry = entry(fields);

        if read(&entry, Limits::default()).is_err() {
            prop_assert_eq!(restore(&raw(&entry)), Some(entry.fields));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_written(envelope in envelope(), surplus in 1_usize..20) {
        let long = "x".repeat(255 + surplus);
        for broken in [
            envelope.clone().with_event_id(""),
            envelope.clone().with_event_id(&long),
            envelope.clone().with_event_id("a\0"),
            envelope.clone().with_correlation_id(&long),
            envelope.clone().with_causation_id("\0"),
        ] {
            prop_assert!(write(&broken, Limits::default()).is_err());
        }
        let size = envelope.payload().as_str().len();
        prop_assert!(write(&envelope, Limits::default().payload_bytes(size)).is_ok());
        prop_assert!(write(&envelope, Limits::default().payload_bytes(size - 1)).is_err());
    }
}
