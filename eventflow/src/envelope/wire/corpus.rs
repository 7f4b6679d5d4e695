//! Hostile entries, and what is said of each.

use std::sync::Arc;

use super::{Limits, raw, read};
use crate::stream::{Entry, EntryId};

const ID: &str = "4f9c6f0e-6c1c-4a77-9d0a-3f1d7c1f0001";
const TIME: &str = "2026-01-31T12:00:00+00:00";

fn entry<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Entry {
    Entry {
        id: EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        },
        fields: fields
            .iter()
            .map(|(name, value)| (name.as_ref().to_vec(), value.as_ref().to_vec()))
            .collect(),
    }
}

fn data(json: impl AsRef<[u8]>) -> Entry {
    entry(&[("data", json)])
}

/// The JSON of a good event with one member replaced; an empty value leaves the member out.
fn json_with(name: &str, value: &str) -> String {
    let members = [
        ("event_id", r#""e-1""#.to_owned()),
        ("event_type", r#""OrderCreated""#.to_owned()),
        ("aggregate_id", format!(r#""{ID}""#)),
        ("occurred_on", format!(r#""{TIME}""#)),
        ("payload", r#"{"a":1}"#.to_owned()),
        ("correlation_id", r#""c-1""#.to_owned()),
        ("causation_id", r#""k-1""#.to_owned()),
    ];
    let text: Vec<_> = members
        .iter()
        .map(|(member, good)| {
            (
                *member,
                if *member == name {
                    value
                } else {
                    good.as_str()
                },
            )
        })
        .filter(|(_, value)| !value.is_empty())
        .map(|(member, value)| format!(r#""{member}":{value}"#))
        .collect();
    format!("{{{}}}", text.join(","))
}

/// A good flattened entry with one field replaced.
fn flat_with(name: &str, value: &[u8]) -> Entry {
    let fields: [(&str, &[u8]); 5] = [
        ("event_id", b"e-1"),
        ("event_type", b"OrderCreated"),
        ("aggregate_id", ID.as_bytes()),
        ("occurred_on", TIME.as_bytes()),
        ("payload", br#"{"a":1}"#),
    ];
    let fields = fields.map(|(field, good)| (field, if field == name { value } else { good }));
    entry(&fields)
}

fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

fn reason(entry: &Entry) -> String {
    read(entry, Limits::default()).unwrap_err().to_string()
}

#[track_caller]
fn assert_reason(entry: &Entry, expected: &str) {
    let reason = reason(entry);
    assert!(
        reason.starts_with(expected),
        "{reason:?} is not {expected:?}"
    );
}

#[track_caller]
fn assert_member(member: &str, value: &str, reason: &str) {
    assert_reason(
        &data(json_with(member, value)),
        &format!("field `{member}`: {reason}"),
    );
}

#[test]
fn names_in_data_that_are_wrong_are_named() {
    let long_id = format!(r#""{}""#, "é".repeat(256));
    let long_type = format!(r#""{}""#, "t".repeat(129));
    for (member, value, reason) in [
        ("event_id", "", "is missing"),
        ("event_id", "null", "is missing"),
        ("event_id", "7", "is a number, not a string"),
        ("event_id", r#""""#, "is empty"),
        ("event_id", r#""a\u0000b""#, "holds a NUL character"),
        ("event_id", r#""\ud800""#, "holds an escape that is no"),
        ("event_id", &long_id, "has 256 characters; the limit is 255"),
        ("event_type", "", "is missing"),
        ("event_type", "[]", "is an array, not a string"),
        (
            "event_type",
            &long_type,
            "has 129 characters; the limit is 128",
        ),
        ("event_type", r#""a\u0000""#, "holds a NUL character"),
        ("correlation_id", "{}", "is an object, not a string"),
        ("correlation_id", &long_id, "has 256 characters"),
        ("correlation_id", r#""\u0000""#, "holds a NUL character"),
        ("causation_id", "7", "is a number, not a string"),
        ("causation_id", &long_id, "has 256 characters"),
    ] {
        assert_member(member, value, reason);
    }
}

#[test]
fn other_members_of_data_that_are_wrong_are_named() {
    for (member, value, reason) in [
        ("aggregate_id", "", "is missing"),
        ("aggregate_id", "true", "is a boolean, not a string"),
        ("aggregate_id", r#""order\n7""#, r"`order\n7` is not a UUID"),
        ("occurred_on", "", "is missing"),
        ("occurred_on", "17", "is a number, not a string"),
        ("payload", "[]", "is an array, not an object"),
        ("payload", r#""{}""#, "is a string, not an object"),
    ] {
        assert_member(member, value, reason);
    }
}

#[test]
fn times_that_no_database_stores_are_malformed() {
    for time in [
        "2026-01-31T12:00:00",
        "2026-01-31",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:30:00-01:00",
        "0000-12-31T00:00:00Z",
        "0001-01-01T00:30:00+01:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T10:15:60Z",
        "yesterday",
        "",
    ] {
        let json = json_with("occurred_on", &format!("{time:?}"));
        assert_reason(&data(json), "field `occurred_on`: ");
    }
}

#[test]
fn times_with_an_offset_are_read_to_the_microsecond() {
    for (time, expected) in [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00+05:30", "2026-01-31T06:30:00+00:00"),
        (
            "2026-01-31 12:00:00.5+00:00",
            "2026-01-31T12:00:00.500+00:00",
        ),
        (
            "2026-01-31T12:00:00.123456789Z",
            "2026-01-31T12:00:00.123456+00:00",
        ),
        // The second that follows.
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        (
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59.999999+00:00",
        ),
        (
            "1960-01-01T00:00:00.000001Z",
            "1960-01-01T00:00:00.000001+00:00",
        ),
    ] {
        let json = json_with("occurred_on", &format!("{time:?}"));
        let envelope = read(&data(json), Limits::default()).unwrap();
        assert_eq!(envelope.metadata().occurred_on.to_rfc3339(), expected);
    }
}

#[test]
fn data_that_is_no_object_is_malformed() {
    for (json, expected) in [
        ("", "field `data`: is empty"),
        (" \n", "field `data`: is empty"),
        ("null", "field `data`: is null, not an object"),
        ("[]", "field `data`: is an array, not an object"),
        ("7", "field `data`: is a number, not an object"),
        ("hello", "field `data`: is not JSON"),
        ("{", "field `data`: is not JSON: EOF"),
        ("{} {}", "field `data`: is not JSON: trailing characters"),
        ("{'a':1}", "field `data`: is not JSON: key must be a string"),
        ("\u{feff}{}", "field `data`: begins with a byte order mark"),
        (
            r#"{"event_id":"a","event_id":"b"}"#,
            "field `event_id`: appears twice",
        ),
        (
            r#"{"payload":{},"payload":{}}"#,
            "field `payload`: appears twice",
        ),
        (r#"{"payload":{"a":NaN}}"#, "field `data`: is not JSON"),
    ] {
        assert_reason(&data(json), expected);
    }
    assert_reason(
        &data(b"{\"event_id\":\"\xff\"}"),
        "field `data`: is not UTF-8 from byte 13",
    );
}

#[test]
fn fields_of_a_flattened_entry_that_are_wrong_are_named() {
    let deep = nested(128);
    let cases: [(&str, &[u8], &str); 9] = [
        ("event_id", b"", "field `event_id`: is empty"),
        (
            "event_id",
            b"\xff",
            "field `event_id`: is not UTF-8 from byte 0",
        ),
        (
            "event_type",
            b"a\0",
            "field `event_type`: holds a NUL character",
        ),
        (
            "aggregate_id",
            b"7",
            "field `aggregate_id`: `7` is not a UUID",
        ),
        (
            "occurred_on",
            b"2026-01-31T12:00:00",
            "field `occurred_on`: ",
        ),
        ("payload", b"", "field `payload`: is not JSON"),
        ("payload", b"hello", "field `payload`: is not JSON"),
        (
            "payload",
            b"[1]",
            "field `payload`: is an array, not an object",
        ),
        (
            "payload",
            deep.as_bytes(),
            "field `payload`: nests deeper than 127 levels",
        ),
    ];
    for (field, value, expected) in cases {
        assert_reason(&flat_with(field, value), expected);
    }
    assert_reason(
        &entry(&[("hello", "world")]),
        "field `event_id`: is missing",
    );
    assert_reason(&entry::<&str, &str>(&[]), "the entry has no fields");
    let mut twice = flat_with("", b"");
    twice.fields.push((b"event_id".to_vec(), b"e-2".to_vec()));
    assert_reason(&twice, "field `event_id`: appears twice");
    let data_twice = entry(&[("data", "{}"), ("data", "{}")]);
    assert_reason(&data_twice, "field `data`: appears twice");
}

#[test]
fn payloads_that_only_look_hostile_are_kept_byte_for_byte() {
    let deep = nested(127);
    for payload in [
        "{}",
        r#"{ "a" : [ 1 , 2 ] }"#,
        r#"{"a":123456789012345678901234567890,"b":1e400,"c":-0}"#,
        r#"{"a":"\ud800","b":"\u0000"}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":"[[[[{{{{\"\\"}"#,
        &deep,
    ] {
        let read_data = read(&data(json_with("payload", payload)), Limits::default());
        assert_eq!(read_data.unwrap().payload().as_str(), payload);
        let flat = read(&flat_with("payload", payload.as_bytes()), Limits::default());
        assert_eq!(flat.unwrap().payload().as_str(), payload);
    }
}

#[test]
fn an_absent_payload_is_an_empty_object() {
    for payload in ["", "null"] {
        let envelope = read(&data(json_with("payload", payload)), Limits::default()).unwrap();
        assert_eq!(envelope.payload().as_str(), "{}");
    }
}

#[test]
fn depth_is_measured_before_anything_is_parsed() {
    assert_reason(
        &data(json_with("payload", &nested(128))),
        "field `data`: nests deeper than 128 levels",
    );
    // Deep enough to overflow the stack of a parser that recurses; not even JSON.
    assert_reason(
        &data(format!(r#"{{"payload":{}"#, "[".repeat(1_000_000))),
        "field `data`: nests deeper than 128 levels",
    );
}

#[test]
fn payloads_over_the_limit_are_malformed() {
    let limits = Limits::default().payload_bytes(100);
    let fits = format!(r#"{{"a":"{}"}}"#, "x".repeat(92));
    let over = format!(r#"{{"a":"{}"}}"#, "x".repeat(93));
    assert_eq!((fits.len(), over.len()), (100, 101));

    for style in [
        data(json_with("payload", &fits)),
        flat_with("payload", fits.as_bytes()),
    ] {
        assert!(read(&style, limits).is_ok());
    }
    for style in [
        data(json_with("payload", &over)),
        flat_with("payload", over.as_bytes()),
    ] {
        let reason = read(&style, limits).unwrap_err().to_string();
        assert_eq!(
            reason,
            "field `payload`: is 101 bytes long; the limit is 100"
        );
    }
    let padded = format!("{}{}", " ".repeat(70_000), json_with("", ""));
    let reason = read(&data(padded), limits).unwrap_err().to_string();
    assert!(reason.starts_with("field `data`: is 70"), "{reason}");
}

#[test]
fn optional_members_that_say_nothing_are_absent() {
    for nothing in ["", "null", r#""""#] {
        let envelope = read(&data(json_with("causation_id", nothing)), Limits::default()).unwrap();
        assert_eq!(envelope.metadata().causation_id, None);
        assert_eq!(envelope.metadata().correlation_id.as_deref(), Some("c-1"));
    }
}

#[test]
fn a_bad_trace_context_is_left_out() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
    for (text, valid) in [
        (good, true),
        (later, true),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            false,
        ),
        (
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            false,
        ),
        (
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            false,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            false,
        ),
        (
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            false,
        ),
        ("hello", false),
        ("", false),
    ] {
        let mut entry = flat_with("", b"");
        entry
            .fields
            .push((b"traceparent".to_vec(), text.as_bytes().to_vec()));
        let envelope = read(&entry, Limits::default()).unwrap();
        assert_eq!(
            envelope.metadata().traceparent.as_deref(),
            valid.then_some(text)
        );
    }
    let mut binary = flat_with("", b"");
    binary
        .fields
        .push((b"traceparent".to_vec(), b"\xff".to_vec()));
    assert!(read(&binary, Limits::default()).is_ok());
}

#[test]
fn names_beside_data_count_where_data_has_none() {
    let json = json_with("event_id", "null");
    let beside = entry(&[("event_id", "beside"), ("data", &json)]);
    let inside = entry(&[("event_id", "beside"), ("data", &json_with("", ""))]);

    let beside = read(&beside, Limits::default()).unwrap();
    let inside = read(&inside, Limits::default()).unwrap();

    assert_eq!(beside.metadata().event_id, "beside");
    assert_eq!(inside.metadata().event_id, "e-1");
}

#[test]
fn messages_cut_what_they_quote() {
    let value = "\u{1b}[31m".repeat(20);
    let reason = reason(&flat_with("aggregate_id", value.as_bytes()));

    assert!(!reason.contains('\u{1b}'));
    assert!(
        reason.contains(r"\u{1b}[31m") && reason.contains("…"),
        "{reason}"
    );
    assert!(reason.len() < 200);
}

#[test]
fn the_bytes_of_an_entry_are_kept() {
    assert_eq!(raw(&data("{")), b"{");
    assert_eq!(
        raw(&entry(&[("a", "bc"), ("d", "")])),
        b"*4\r\n$1\r\na\r\n$2\r\nbc\r\n$1\r\nd\r\n$0\r\n\r\n"
    );
    assert_eq!(
        raw(&data("*0\r\n")),
        b"*2\r\n$4\r\ndata\r\n$4\r\n*0\r\n\r\n"
    );
    assert_eq!(raw(&entry::<&str, &str>(&[])), b"*0\r\n");
}

#[test]
fn the_event_type_of_an_unreadable_entry_is_made_out() {
    let hint = |entry| super::event_type_hint(&entry);

    assert_eq!(
        hint(data(json_with("event_id", ""))).as_deref(),
        Some("OrderCreated")
    );
    assert_eq!(
        hint(flat_with("event_id", b"")).as_deref(),
        Some("OrderCreated")
    );
    let long = format!(r#""{}""#, "é".repeat(500));
    assert_eq!(
        hint(data(json_with("event_type", &long))),
        Some("é".repeat(128))
    );
    for nothing in [
        data("{"),
        data("\u{feff}"),
        entry(&[("a", "b")]),
        flat_with("event_type", b"\0"),
    ] {
        assert_eq!(hint(nothing), None);
    }
}
