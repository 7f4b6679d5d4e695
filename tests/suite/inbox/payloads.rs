//! Payloads: what is decoded when an event is fresh, and what the column gives back later.

use eventflow::{Envelope, Payload, inbox::Inbox as _};
use eventflow_tests::property;
use proptest::{collection::vec, prelude::*};
use serde_json::value::RawValue;
use sqlx::PgPool;
use tokio::runtime::Runtime;

use super::{
    arrival,
    fixture::{Fixture as _, Postgres},
    holder,
};

/// Objects, as producers may write them.
fn objects() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        numbers(),
        strings(),
    ];
    let value = leaf.prop_recursive(4, 40, 5, |value| {
        prop_oneof![
            (blank(), vec(value.clone(), 0..5)).prop_map(|(blank, values)| {
                format!("[{blank}{}{blank}]", values.join(&format!("{blank},")))
            }),
            object_of(value),
        ]
    });
    object_of(value)
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (blank(), vec((strings(), value), 0..6)).prop_map(|(blank, members)| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(key, value)| format!("{key}{blank}:{blank}{value}"))
            .collect();
        format!(
            "{{{blank}{}{blank}}}",
            members.join(&format!("{blank},{blank}"))
        )
    })
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just(" "), Just("\r\n\t ")]
}

fn numbers() -> impl Strategy<Value = String> {
    let digits = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,8})?";
    (
        digits,
        prop_oneof![Just(""), Just("e"), Just("E+"), Just("e-")],
        0..40_u8,
    )
        .prop_map(|(digits, e, exponent)| match e {
            "" => digits,
            e => format!("{digits}{e}{exponent}"),
        })
}

/// Few of them, so that an object may have a key twice, written in one way or in two.
fn strings() -> impl Strategy<Value = String> {
    const PIECES: [&str; 16] = [
        "a",
        "b",
        "A",
        "é",
        "\u{7f}",
        "日",
        " ",
        ":",
        "\\u0061",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\/",
        "\\n",
        "\\u001f",
        "\\\"",
        "\\\\",
    ];
    vec(prop::sample::select(&PIECES[..]), 0..4)
        .prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// As the database writes them, whatever the producer wrote.
#[test]
fn a_fresh_payload_is_what_the_column_gives_back() {
    let runtime = Runtime::new().unwrap();
    let postgres = runtime.block_on(Postgres::start());
    let pool = runtime
        .block_on(PgPool::connect(postgres.database.url()))
        .unwrap();

    property::check(24, &vec(objects(), 100), |texts| {
        runtime.block_on(async {
            let arrivals = texts.iter().map(|text| {
                let raw = RawValue::from_string(text.trim().to_owned()).unwrap();
                let mut arrival = arrival(&uuid::Uuid::new_v4().to_string());
                let payload = Payload::encode("OrderPaid", &raw).unwrap();
                let metadata = arrival.envelope.metadata().clone();
                arrival.envelope = Envelope::from_parts(metadata, payload);
                arrival
            });
            let inserted = postgres
                .inbox()
                .insert(&holder("a"), arrivals.collect())
                .await;
            let rows = inserted.unwrap().rows;

            prop_assert_eq!(rows.len(), texts.len());
            for (row, text) in rows.iter().zip(&texts) {
                let stored = "SELECT payload::text, raw IS NULL FROM event_inbox WHERE id = $1";
                let (stored, is_in_column): (String, bool) = sqlx::query_as(stored)
                    .bind(row.lease.id)
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                prop_assert!(is_in_column, "{}", text);
                prop_assert_eq!(row.envelope.payload().as_str(), stored, "{}", text);
            }
            Ok(())
        })
    });
}
