//! M: what is wrong with an entry, an event, or its payload.
//!
//! The entries stand in a real Redis; each row is shown on both databases.

use std::sync::{Arc, Mutex};

use eventflow::{Delivery, Failure, consumer::UnknownEvents, layer::TraceLayer, prelude::*};
use eventflow_tests::shop::{Database, GROUP, Postgres, Script, Sqlite};
use futures_util::FutureExt;
use tracing::Level;

use crate::consumer::logs;

use super::redis_shop::{Fields, ORDER_ID, RedisShop, data, good_order, order, order_with};

on_every_database!(
    m1_an_unreadable_payload_is_a_dead_letter_at_once_with_its_path,
    m2_an_event_of_unknown_type_is_kept_ignored_or_left_as_the_policy_says,
    m3_invalid_utf8_nul_lone_surrogates_and_empty_entries_are_kept,
    m3_an_entry_that_the_database_refuses_does_not_block_its_batch,
    m5_times_without_offset_or_out_of_range_are_told_and_others_are_kept,
    m6_an_event_id_is_any_text_and_the_first_event_with_it_wins,
    m7_an_added_field_is_read_and_a_renamed_one_is_a_dead_letter,
    m8_long_names_are_refused_and_long_fields_beside_them_are_left_out,
);

fn payload(members: &str) -> String {
    format!(r#"{{"order_id":"{ORDER_ID}",{members}}}"#)
}

/// The payload is an event's, so it stands in its column: `raw` is for what JSONB refuses.
async fn m1_an_unreadable_payload_is_a_dead_letter_at_once_with_its_path<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let cases = [
        ("missing", r#""amount":7"#, ".", "7"),
        ("mistyped", r#""number":"one""#, "number", "one"),
        ("over-u32", r#""number":4294967296"#, "number", "4294967296"),
        (
            "over-i64",
            r#""number":-9223372036854775809"#,
            "number",
            "-9223372036854775809",
        ),
        // JSONB takes it and serde does not.
        ("over-f64", r#""number":1e400"#, "number", "000000"),
        // JSONB does not take it either.
        ("over-jsonb", r#""number":1e200000"#, "number", "1e200000"),
    ];
    let entries = cases.map(|(id, members, ..)| order(id, payload(members)));
    shop.add(&entries).await;
    shop.add(&[good_order("good")]).await;

    let report = shop.drain().await;

    let ended = (report.dead_lettered, report.failed, report.processed);
    assert_eq!(ended, (6, 0, 1), "{report}");
    let letters = shop.shop.dead_letters().await;
    for (id, _, path, kept) in cases {
        let letter = letters
            .iter()
            .find(|letter| letter.envelope.metadata().event_id == id)
            .unwrap();
        let path = format!("payload of `OrderPlaced` cannot be read at `{path}`");
        assert!(letter.error_message.starts_with(&path), "{letter:?}");
        assert_eq!(letter.retry_count, 1, "{id}");
        let payload = letter.envelope.payload().as_str();
        let kept = if id == "over-f64" && payload.contains("1e400") {
            "1e400"
        } else {
            kept
        };
        assert!(payload.contains(kept), "{id}: {payload}");
    }
    assert_eq!(shop.pending().await, 0);
}

async fn m2_an_event_of_unknown_type_is_kept_ignored_or_left_as_the_policy_says<D: Database>() {
    for (policy, status) in [
        (UnknownEvents::DeadLetter, Some("dead_letter")),
        (UnknownEvents::Ignore, None),
        (UnknownEvents::Leave, Some("pending")),
    ] {
        let shop = RedisShop::<D>::open().await;
        shop.add(&[order_with("e-1", "event_type", "OrderRefunded")])
            .await;
        let consumer = shop.consumer(Script::new()).await.unknown_events(policy);

        let report = consumer.build().unwrap().drain_scheduled().await.unwrap();

        assert_eq!((report.read, report.unknown), (1, 1), "{report}");
        assert_eq!((report.processed, report.failed), (0, 0), "{report}");
        let statuses = shop.shop.database.texts("SELECT status FROM event_inbox");
        assert_eq!(statuses.await, Vec::from_iter(status), "{policy:?}");
        assert_eq!(shop.pending().await, 0);
        if policy == UnknownEvents::DeadLetter {
            assert_eq!(
                shop.shop.column("e-1", "error_message").await,
                "no handler for events of type `OrderRefunded`"
            );
        }
    }
}

/// As the array of bulk strings that is kept of an entry with more than one field.
fn resp(fields: &Fields) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", fields.len() * 2).into_bytes();
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(format!("${}\r\n", text.len()).bytes());
        bytes.extend(text);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Redis takes no entry without a field; one that was trimmed looks so, and is row R6's.
async fn m3_invalid_utf8_nul_lone_surrogates_and_empty_entries_are_kept<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let malformed = [
        (
            data(b"\xff\xfe{}"),
            "field `data`: is not UTF-8 from byte 0",
        ),
        (data(b"{\"event_id\":\"\0\"}"), "field `data`: is not JSON"),
        (data(""), "field `data`: is empty"),
        (data("\u{feff}{}"), "field `data`: begins with a byte order"),
        (
            vec![(Vec::new(), Vec::new())],
            "field `event_id`: is missing",
        ),
        (
            order_with("e", "event_id", b"a\0b"),
            "field `event_id`: holds a NUL",
        ),
        (
            order_with("e", "event_type", b"\xc3\x28"),
            "field `event_type`: is not UTF-8 from byte 0",
        ),
        (
            data(r#"{"event_id":"\ud800"}"#),
            "field `event_id`: holds an escape that is no character",
        ),
        (order("e", ""), "field `payload`: is not JSON"),
        (
            order("e", b"{\"a\":\"\xff\"}"),
            "field `payload`: is not UTF-8",
        ),
    ];
    let entries = malformed.clone().map(|(fields, _)| fields);
    let ids = shop.add(&entries).await;
    // Events they are, though JSONB does not take their payloads.
    shop.add(&[
        order("nul", payload(r#""number":1,"note":"\u0000""#)),
        order("lone", payload(r#""number":1,"note":"\ud800""#)),
        good_order("good"),
    ])
    .await;

    let report = shop.drain().await;

    assert_eq!((report.malformed, report.processed), (10, 3), "{report}");
    assert_eq!(shop.shop.effects().await, ["good", "lone", "nul"]);
    for ((fields, reason), id) in malformed.iter().zip(&ids) {
        let bytes = match fields.as_slice() {
            [(name, value)] if name == b"data" => value.clone(),
            _ => resp(fields),
        };
        assert_eq!(shop.raw(id).await, bytes, "{reason}");
        let event_id = format!("malformed:shop/{id}");
        let message = shop.shop.column(&event_id, "error_message").await;
        assert!(message.starts_with(reason), "{message}");
        assert_eq!(shop.shop.column(&event_id, "retry_count").await, "0");
    }
    assert_eq!(shop.pending().await, 0);
}

/// Nothing that is known passes the checks and is refused: a trigger does it here.
async fn m3_an_entry_that_the_database_refuses_does_not_block_its_batch<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    shop.shop.database.change(D::REFUSES).await;
    let mut entries: Vec<_> = (0..50).map(|n| good_order(&format!("good-{n}"))).collect();
    entries.insert(20, good_order("refused"));
    let ids = shop.add(&entries).await;

    let report = shop.drain().await;

    assert_eq!((report.processed, report.malformed), (50, 1), "{report}");
    assert_eq!(shop.shop.effects().await.len(), 50);
    let refused = &ids[20];
    assert_eq!(shop.raw(refused).await, resp(&good_order("refused")));
    let event_id = format!("malformed:shop/{refused}");
    let message = shop.shop.column(&event_id, "error_message").await;
    assert!(
        message.starts_with("the database refused the event: "),
        "{message}"
    );
    assert_eq!(shop.pending().await, 0);
}

async fn m5_times_without_offset_or_out_of_range_are_told_and_others_are_kept<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new().on_order({
        let times = Arc::clone(&times);
        move |call| {
            let read = call.meta.occurred_on.to_rfc3339();
            times.lock().unwrap().push((call.meta.event_id, read));
            async { Err(Failure::retry("once more")) }.boxed()
        }
    });
    let time = |text: &str| order_with(text, "occurred_on", text);
    let refused = [
        "2026-01-01T00:00:00",
        "2026-01-01",
        "10000-01-01T00:00:00Z",
        "0000-12-31T23:59:59Z",
        "2026-01-01T12:00:60Z",
        "-1",
        "infinity",
    ];
    let ids = shop.add(&refused.map(time)).await;
    let kept = [
        // A leap second is carried over: databases know none.
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("1969-12-31T23:59:58.5Z", "1969-12-31T23:59:58.500+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        (
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59.999999+00:00",
        ),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00+00:00"),
    ];
    shop.add(&kept.map(|(text, _)| time(text))).await;

    let consumer = shop.consumer(script).await.max_retries(2);
    let consumer = consumer.build().unwrap();
    let report = consumer.drain_scheduled().await.unwrap();

    assert_eq!((report.malformed, report.stored), (7, 5), "{report}");
    for (id, text) in ids.iter().zip(refused) {
        let event_id = format!("malformed:shop/{id}");
        let message = shop.shop.column(&event_id, "error_message").await;
        assert!(message.starts_with("field `occurred_on`: "), "{message}");
        assert!(
            message.contains(text) || message.contains("years"),
            "{message}"
        );
    }
    // Once fresh, once from the table, and where they share a savepoint, once more with one each.
    let times = times.lock().unwrap().clone();
    for (id, time) in kept {
        let seen = times.iter().filter(|(seen, _)| seen == id);
        let seen: Vec<_> = seen.map(|(_, time)| time.as_str()).collect();
        assert!(
            seen.len() >= 2 && seen.iter().all(|seen| *seen == time),
            "{id}: {seen:?}"
        );
    }
}

/// An event id is required and never made up: a made-up one would not be the same for a second
/// copy. What else an event holds that comes again under its id is not compared.
async fn m6_an_event_id_is_any_text_and_the_first_event_with_it_wins<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let mut missing = good_order("");
    missing.remove(0);
    let nil = Uuid::nil().to_string();
    // As the dead letter of an entry to come would be called.
    let taken = good_order("malformed:shop/9999999999999-0");
    shop.add(&[missing, good_order("no uuid"), good_order(&nil), taken])
        .await;
    let first = order("reused", payload(r#""number":1"#));
    let second = order("reused", payload(r#""number":2"#));
    shop.add(&[first, second.clone()]).await;
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new().on_order({
        let numbers = Arc::clone(&numbers);
        move |mut call| {
            numbers.lock().unwrap().push(call.event.number);
            async move { call.write().await }.boxed()
        }
    });

    let consumer = shop.consumer(script).await.build().unwrap();
    let report = consumer.drain().await.unwrap();
    shop.add(&[second]).await;
    let later = consumer.drain().await.unwrap();

    let counts = (report.malformed, report.processed, report.duplicates);
    assert_eq!(counts, (2, 3, 1), "{report}");
    assert_eq!((later.processed, later.duplicates), (0, 1), "{later}");
    assert_eq!(shop.shop.effects().await, [&nil, "no uuid", "reused"]);
    assert_eq!(*numbers.lock().unwrap(), [1, 1, 1]);
    let payload = shop.shop.column("reused", "payload").await;
    assert!(
        payload.replace(' ', "").contains(r#""number":1"#),
        "{payload}"
    );
    let letters = shop.shop.dead_letters().await;
    let mut reasons: Vec<_> = letters
        .iter()
        .map(|letter| &*letter.error_message)
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "field `event_id`: begins with `malformed:`, as only those of malformed entries do",
            "field `event_id`: is missing",
        ]
    );
}

/// Events have no versions here, and nothing converts them: serde's attributes do.
async fn m7_an_added_field_is_read_and_a_renamed_one_is_a_dead_letter<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    shop.add(&[
        order("added", payload(r#""number":1,"gift":{"wrap":true}"#)),
        order("renamed", payload(r#""count":1"#)),
        order("removed", format!(r#"{{"order_id":"{ORDER_ID}"}}"#)),
    ])
    .await;

    let report = shop.drain().await;

    let ended = (report.processed, report.failed, report.dead_lettered);
    assert_eq!(ended, (1, 0, 2), "{report}");
    assert_eq!(shop.shop.effects().await, ["added"]);
    for event_id in ["renamed", "removed"] {
        let message = shop.shop.column(event_id, "error_message").await;
        assert!(message.contains("missing field `number`"), "{message}");
    }

    // The dead letters wait for the deploy that reads them.
    let ids: Vec<_> = shop
        .shop
        .dead_letters()
        .await
        .iter()
        .map(|letter| letter.id)
        .collect();
    let inbox = shop.shop.inbox();
    let requeued = inbox.requeue(GROUP, &ids);
    assert_eq!(requeued.await.unwrap(), 2);
    let reads_anything = tower::service_fn(|_: Delivery<D::Inbox>| async { Ok::<(), Failure>(()) });
    let stream = shop.shop.stream.clone();
    let later = D::MODE.set(Consumer::builder(stream, shop.shop.inbox(), reads_anything));
    let report = later.build().unwrap().drain().await.unwrap();
    assert_eq!(report.processed, 2, "{report}");
}

/// The limits are the columns': 255 characters for ids, 128 for types. Other fields of an entry
/// are ignored, whatever they hold; a trace context is kept if it is one.
async fn m8_long_names_are_refused_and_long_fields_beside_them_are_left_out<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let long = "x".repeat(256);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let refused = [
        ("event_id", 255),
        ("event_type", 128),
        ("correlation_id", 255),
        ("causation_id", 255),
    ];
    let entries = refused.map(|(name, _)| order_with("e", name, &long));
    let ids = shop.add(&entries).await;
    shop.add(&[
        good_order(&long[..255]),
        order_with("header", &"h".repeat(70_000), "v".repeat(1_000_000)),
        order_with("no trace", "traceparent", "0".repeat(1_000_000)),
        order_with("trace", "traceparent", trace),
    ])
    .await;

    let report = shop.drain().await;

    assert_eq!((report.malformed, report.processed), (4, 4), "{report}");
    for (id, (name, limit)) in ids.iter().zip(refused) {
        assert_eq!(
            shop.shop
                .column(&format!("malformed:shop/{id}"), "error_message")
                .await,
            format!("field `{name}`: has 256 characters; the limit is {limit}")
        );
    }
    assert_eq!(shop.shop.column("header", "headers").await, "");
    assert_eq!(shop.shop.column("no trace", "headers").await, "");
    assert!(shop.shop.column("trace", "headers").await.contains(trace));
}

/// Text of an event's own that pretends to be a line of the log, and would clear the screen.
const FORGED: &str = "e\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m";

/// What is logged, with tracing's own writer, of events whose every name is forged.
async fn lines_of_forged_names<D: Database>() {
    let (_here, lines) = logs::capture(Level::TRACE);
    let shop = RedisShop::<D>::open().await;
    let failing = Script::new().on_order(|call| {
        async move { Err(Failure::retry(format!("no {}", call.meta.event_id))) }.boxed()
    });
    shop.add(&[
        good_order(FORGED),
        order_with("e-1", "event_type", FORGED),
        order_with("e-2", "aggregate_id", FORGED),
        order_with("e-3", "correlation_id", FORGED),
        order_with("e-4", "traceparent", FORGED),
        order("e-5", FORGED),
        order("e-6", format!(r#"{{"{}":1}}"#, FORGED.escape_default())),
        data(FORGED),
        order_with(FORGED, "occurred_on", FORGED),
    ])
    .await;

    let traced = TraceLayer::new();
    let consumer = shop.consumer(failing).await.layer(traced);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.read, 9, "{report}");
    let lines = lines.text();
    assert!(lines.contains("forged"), "{lines}");
    for line in lines.lines() {
        assert!(!line.trim_start().starts_with("2026-01-01"), "{line:?}");
        assert!(!line.contains(['\u{1b}', '\u{9b}', '\r']), "{line:?}");
    }
}

#[tokio::test]
async fn m8_control_characters_forge_no_log_line_on_sqlite() {
    lines_of_forged_names::<Sqlite>().await;
}

#[tokio::test]
async fn m8_control_characters_forge_no_log_line_on_postgres() {
    lines_of_forged_names::<Postgres>().await;
}
