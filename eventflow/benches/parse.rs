//! How long it takes to read an event from an entry, in both styles.
//!
//! From the bytes that a stream gave to the envelope: the checks of all members, and the payload as
//! text. What reads the payload into a struct is `decode` of the bench `dispatch`.

use std::{hint::black_box, sync::Arc};

use divan::{Bencher, counter::BytesCount};
use eventflow::{
    envelope::wire,
    stream::{Entry, EntryId},
};

fn main() {
    divan::main();
}

/// How long the payloads are, in bytes.
const PAYLOADS: [usize; 2] = [200, 10 * 1024];

/// One field `data`, which holds JSON.
#[divan::bench(args = PAYLOADS, sample_size = 100)]
fn data(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut members: Vec<String> = MEMBERS
        .iter()
        .map(|(name, value)| format!(r#""{name}":"{value}""#))
        .collect();
    members.push(format!(r#""payload":{}"#, payload(bytes)));
    let data = format!("{{{}}}", members.join(","));
    read(bencher, vec![("data", data)]);
}

/// A field for each member.
#[divan::bench(args = PAYLOADS, sample_size = 100)]
fn flattened(bencher: Bencher<'_, '_>, bytes: usize) {
    let members = MEMBERS
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let members = members.chain([("payload", payload(bytes))]);
    read(bencher, members.collect());
}

const MEMBERS: [(&str, &str); 6] = [
    ("event_id", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ("event_type", "OrderCreated"),
    ("aggregate_id", "7c8f0a6a-7b7c-4c74-9cfb-2e2e2b9b1d33"),
    ("occurred_on", "2026-01-31T12:00:00.123456+00:00"),
    ("correlation_id", "checkout-7c8f0a6a"),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
];

/// An order of so many bytes.
fn payload(bytes: usize) -> String {
    const ITEM: &str = r#"{"sku":"tea-earl-grey-250g","quantity":2,"price":"12.50"}"#;

    let mut text = r#"{"items":["#.to_owned();
    while text.len() + ITEM.len() + 100 < bytes {
        text.push_str(ITEM);
        text.push(',');
    }
    text.push_str(ITEM);
    text.push_str(r#"],"note":""#);
    let room = bytes - text.len() - 2;
    text.push_str(&"x".repeat(room));
    text.push_str(r#""}"#);
    text
}

fn read(bencher: Bencher<'_, '_>, fields: Vec<(&str, String)>) {
    let fields = fields.into_iter();
    let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    let entry = Entry {
        id: EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        },
        fields: fields.collect(),
    };
    let bytes: usize = entry.fields.iter().map(|(_, value)| value.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let envelope = wire::read(black_box(&entry), wire::Limits::default());
        assert!(black_box(envelope).is_ok());
    });
}
