//! The envelope decoder: any payload is an event, or unreadable with a reason.

#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use eventflow::{
    EventSet,
    envelope::wire::{self, Limits},
    prelude::*,
    stream::{Entry, EntryId},
};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
struct OrderPlaced {
    #[event(aggregate_id)]
    order_id: Uuid,
    number: u32,
    price: Option<f64>,
    lines: Vec<Line>,
    notes: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Item { sku: String, quantity: i64 },
    Discount { percent: i8 },
}

#[derive(Debug, EventSet)]
enum Orders {
    Placed(OrderPlaced),
}

/// Beyond it, a number that is read a little higher than it was written is out of range.
const HIGHEST_PRICE: f64 = 1e300;

/// Without `float_roundtrip`, serde_json reads a number up to a few units in the last place off.
fn is_about(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            (one - other).abs() <= other.abs() * 4.0 * f64::EPSILON + f64::MIN_POSITIVE
        }
        (one, other) => one == other,
    }
}

fuzz_target!(|payload: &[u8]| {
    let fields = [
        ("event_id", &b"e-1"[..]),
        ("event_type", b"OrderPlaced"),
        ("aggregate_id", b"7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10"),
        ("occurred_on", b"2026-01-01T00:00:00Z"),
        ("payload", payload),
    ];
    let entry = Entry {
        id: EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        },
        fields: fields.map(|(name, value)| (name.into(), value.into())).into(),
    };
    let Ok(envelope) = wire::read(&entry, Limits::default()) else {
        assert_eq!(wire::restore(&wire::raw(&entry)), Some(entry.fields));
        return;
    };
    match envelope.decode::<OrderPlaced>() {
        Ok(mut event) => {
            event.price = event.price.filter(|price| price.abs() < HIGHEST_PRICE);
            let again = Envelope::new(&event).expect("what is decoded is encoded");
            let mut again: OrderPlaced = again.decode().expect("and decoded again");
            assert!(is_about(again.price, event.price), "{again:?} and {event:?}");
            again.price = event.price;
            assert_eq!(again, event);
            assert!(Orders::decode(&envelope).is_ok());
        }
        Err(unreadable) => {
            assert!(!unreadable.to_string().is_empty());
            assert!(Orders::decode(&envelope).is_err());
        }
    }
});
