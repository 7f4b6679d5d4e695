//! Whatever stands in a stream: each entry ends as exactly one row, an event's or a dead letter with
//! the entry's bytes, and nothing panics.

use eventflow::{Report, envelope::wire, inbox::DeadLetter, prelude::*};
use eventflow_tests::shop::{GROUP, Script, Shop, Sqlite, order, router};
use proptest::{collection::vec, prelude::*};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const MEMBERS: [&str; 9] = [
    "event_id",
    "event_type",
    "aggregate_id",
    "occurred_on",
    "payload",
    "correlation_id",
    "causation_id",
    "traceparent",
    "data",
];

/// JSON of an order, and what is nearly so.
fn payload() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<u32>().prop_map(|number| number.to_string()),
        any::<i128>().prop_map(|number| number.to_string()),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?",
        Just("1e400".to_owned()),
        Just(r#""\u0000""#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        (1_usize..200).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        r#"[\{\}\[\]":,\\a-z0-9 ]{0,20}"#,
    ];
    number.prop_map(|number| {
        format!(r#"{{"order_id":"7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10","number":{number}}}"#)
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        payload().prop_map(String::into_bytes),
        r#"[\{\}\[\]":,\\a-z0-9 u]{0,60}"#.prop_map(String::into_bytes),
    ]
}

/// An event whose payload is anything; in some, one field is something else.
fn near_event() -> impl Strategy<Value = Fields> {
    let damage = prop::option::weighted(0.3, (0..5_usize, value()));
    (payload(), damage).prop_map(|(payload, damage)| {
        let mut fields: Fields = [
            ("event_id", Uuid::now_v7().to_string()),
            ("event_type", "OrderPlaced".to_owned()),
            ("aggregate_id", Uuid::now_v7().to_string()),
            ("occurred_on", "2026-01-01T00:00:00Z".to_owned()),
            ("payload", payload),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        if let Some((place, value)) = damage {
            fields[place].1 = value;
        }
        fields
    })
}

fn entry() -> impl Strategy<Value = Fields> {
    let name = prop_oneof![
        prop::sample::select(MEMBERS.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        vec(any::<u8>(), 0..20),
    ];
    prop_oneof![near_event(), vec((name, value()), 1..8)]
}

/// Drains these entries, and answers what was counted and what is kept.
async fn drained(entries: &[Fields]) -> (Report, Vec<String>, Vec<DeadLetter>) {
    let shop = Shop::<Sqlite>::open().await;
    let stream = MemoryStream::new("hostile").group(GROUP);
    let ids = entries
        .iter()
        .map(|fields| stream.publish_raw(fields.clone()).id);
    let ids = ids.collect();
    stream.send(&[order(1)]).await.unwrap();
    let router = router(Script::<Sqlite>::new());
    let consumer = Consumer::builder(stream.clone(), shop.inbox(), router);
    let report = consumer.build().unwrap().drain().await.unwrap();
    assert_eq!(stream.pending(), 0);
    assert!(shop.effects().await.contains(&"order-1".to_owned()));
    let counts = shop.counts().await;
    assert_eq!((counts.pending, counts.processing), (0, 0));
    (report, ids, shop.dead_letters().await)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_entry_is_one_event_or_kept_with_its_bytes(entries in vec(entry(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();

        let (report, ids, letters) = runtime.block_on(drained(&entries));

        let read = report.stored + report.duplicates + report.malformed + report.ignored + report.unknown;
        prop_assert_eq!(report.read, entries.len() as u64 + 1, "{}", report);
        prop_assert_eq!(report.read, read, "{}", report);
        let ran = report.processed + report.failed + report.dead_lettered;
        prop_assert_eq!(report.stored, ran, "{}", report);
        let kept = letters.iter().filter(|letter| {
            letter.envelope.metadata().event_id.starts_with(wire::MALFORMED)
        });
        prop_assert_eq!(kept.count() as u64, report.malformed);
        for (id, fields) in ids.iter().zip(entries) {
            let name = format!("{}hostile/{id}", wire::MALFORMED);
            let of_entry = |letter: &&DeadLetter| letter.envelope.metadata().event_id == name;
            if let Some(letter) = letters.iter().find(of_entry) {
                let raw = letter.raw.as_deref().unwrap();
                prop_assert_eq!(wire::restore(raw), Some(fields));
                prop_assert!(!letter.error_message.is_empty());
            }
        }
    }
}
