//! Replies about entries, read without loss: order, duplicates and bytes of fields stay.

use std::sync::Arc;

use deadpool_redis::redis::Value;

use crate::stream::{Batch, Entry, EntryId};

/// The cursor with which a walk through pending entries begins, and that ends one.
pub(super) const START: &str = "0-0";

/// The entries that a read gave, by stream; none if it gave nothing.
pub(super) fn streams(reply: Value) -> Vec<(String, Vec<Value>)> {
    let pairs = match reply {
        Value::Map(pairs) => pairs,
        Value::Array(streams) => streams.into_iter().filter_map(pair).collect(),
        _ => Vec::new(),
    };
    pairs
        .into_iter()
        .filter_map(|(stream, entries)| Some((text(stream)?, array(entries)?)))
        .collect()
}

/// Adds entries of one stream to a batch; those without fields were trimmed. Answers the id of the
/// last one.
pub(super) fn add_entries(
    batch: &mut Batch,
    stream: &Arc<str>,
    entries: Vec<Value>,
) -> Option<String> {
    let mut last = None;
    for (id, fields) in entries.into_iter().filter_map(pair) {
        let Some(id) = text(id) else {
            continue;
        };
        last = Some(id.clone());
        let id = EntryId {
            stream: Arc::clone(stream),
            id,
        };
        match array(fields) {
            Some(fields) if !fields.is_empty() => batch.entries.push(Entry {
                id,
                fields: pairs_of_bytes(fields),
            }),
            _ => batch.trimmed.push(id),
        }
    }
    last
}

/// Whether a summary of what is pending names another consumer.
pub(super) fn others_have_pending(summary: Value, consumer: &str) -> bool {
    let consumers = array(summary).and_then(|summary| summary.into_iter().nth(3));
    let consumers = consumers.and_then(array).unwrap_or_default();
    let mut consumers = consumers.into_iter().filter_map(array);
    consumers.any(|named| {
        let name = named.into_iter().next().and_then(text);
        name.is_some_and(|name| name != consumer)
    })
}

/// What a claim gave.
pub(super) struct Claimed {
    /// From where the walk goes on.
    pub(super) cursor: String,
    /// The entries.
    pub(super) entries: Vec<Value>,
    /// The ids of those that were trimmed; the server has forgotten them (Redis 7 and later).
    pub(super) trimmed: Vec<String>,
    /// Some were trimmed and the server does not say which (Redis 6.2).
    pub(super) hides_trimmed: bool,
}

pub(super) fn claimed(reply: Value) -> Option<Claimed> {
    let mut parts = array(reply)?.into_iter();
    let cursor = text(parts.next()?)?;
    let claimed = array(parts.next()?)?;
    let trimmed = parts.next().and_then(array).unwrap_or_default();
    let (hidden, entries): (Vec<_>, Vec<_>) =
        claimed.into_iter().partition(|entry| *entry == Value::Nil);
    Some(Claimed {
        cursor,
        entries,
        trimmed: trimmed.into_iter().filter_map(text).collect(),
        hides_trimmed: !hidden.is_empty(),
    })
}

fn pairs_of_bytes(values: Vec<Value>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut values = values.into_iter().map(bytes);
    std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
}

fn pair(value: Value) -> Option<(Value, Value)> {
    let mut values = array(value)?.into_iter();
    Some((values.next()?, values.next()?))
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_claim_of_redis_6_2_says_that_entries_were_trimmed_but_not_which() {
        let entry = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("a"), bulk("b")])]);
        let reply = Value::Array(vec![bulk("0-0"), Value::Array(vec![Value::Nil, entry])]);

        let claimed = claimed(reply).unwrap();

        assert!(claimed.hides_trimmed);
        assert_eq!(claimed.entries.len(), 1);
        assert_eq!(claimed.cursor, START);
    }

    #[test]
    fn entries_come_alike_from_both_protocols() {
        let fields = Value::Array(vec![bulk("a"), bulk("1"), bulk("a"), bulk("2")]);
        let entries = Value::Array(vec![Value::Array(vec![bulk("1-0"), fields])]);
        let resp2 = Value::Array(vec![Value::Array(vec![bulk("orders"), entries.clone()])]);
        let resp3 = Value::Map(vec![(bulk("orders"), entries)]);

        assert_eq!(streams(resp2.clone()), streams(resp3));
        let (_, entries) = streams(resp2).pop().unwrap();
        let mut batch = Batch::default();
        assert_eq!(
            add_entries(&mut batch, &Arc::from("orders"), entries).as_deref(),
            Some("1-0")
        );
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(batch.entries[0].fields, [pair("a", "1"), pair("a", "2")]);
    }
}
