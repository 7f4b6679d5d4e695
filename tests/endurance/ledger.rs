//! What was published, and what the stream holds of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Mutex,
};

use crate::message::{Event, Fields, Message};

/// What producers have published so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Published>);

#[derive(Debug, Default)]
struct Published {
    /// By their ids, whether Redis has answered or not.
    events: HashMap<String, Event>,
    malformed: HashSet<Fields>,
    /// Ids of the entries that Redis has answered with.
    answered: HashSet<String>,
}

/// What the stream holds: Redis may have taken more than it has answered.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) entries: usize,
    pub(crate) events: BTreeMap<String, Event>,
    /// The ids of the events, in the order in which they came first.
    pub(crate) order: Vec<String>,
    /// Entries with an event that another entry brings as well.
    pub(crate) duplicates: usize,
    /// The bytes that are to be kept of malformed entries, by the ids of their dead letters.
    pub(crate) malformed: BTreeMap<String, Vec<u8>>,
    /// Entries that Redis has answered with and does not have.
    pub(crate) lost: Vec<String>,
}

impl Ledger {
    /// Notes what is published from now on.
    pub(crate) fn plan(&self, messages: &[Message]) {
        let mut published = self.0.lock().unwrap();
        for message in messages {
            match &message.event {
                Some(event) => {
                    published.events.insert(event.id.clone(), event.clone());
                }
                None => {
                    published.malformed.insert(message.fields.clone());
                }
            }
        }
    }

    /// Notes which entries Redis has answered with.
    pub(crate) fn answered(&self, entries: Vec<String>) {
        self.0.lock().unwrap().answered.extend(entries);
    }

    /// Compares with the entries of the stream.
    pub(crate) fn carried(&self, stream: Vec<(String, Fields)>) -> Carried {
        let published = self.0.lock().unwrap();
        let mut carried = Carried {
            entries: stream.len(),
            ..Carried::default()
        };
        let mut ids = HashSet::with_capacity(stream.len());
        for (entry, fields) in stream {
            if published.malformed.contains(&fields) {
                let letter = format!("malformed:work/{entry}");
                carried.malformed.insert(letter, bytes(&fields));
            } else {
                let event = &published.events[&event_id(&fields)];
                let before = carried.events.insert(event.id.clone(), event.clone());
                match before {
                    Some(_) => carried.duplicates += 1,
                    None => carried.order.push(event.id.clone()),
                }
            }
            ids.insert(entry);
        }
        carried.lost = published.answered.difference(&ids).cloned().collect();
        carried
    }
}

/// The id that a well-formed entry names.
fn event_id(fields: &Fields) -> String {
    let value = |name: &[u8]| {
        let field = fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_slice())
    };
    if let Some(id) = value(b"event_id") {
        return String::from_utf8(id.to_vec()).unwrap();
    }
    let data: serde_json::Value = serde_json::from_slice(value(b"data").unwrap()).unwrap();
    data["event_id"].as_str().unwrap().to_owned()
}

/// What a dead letter keeps: the value of a lone `data`, else the fields as Redis writes them.
fn bytes(fields: &Fields) -> Vec<u8> {
    match fields.as_slice() {
        [(name, value)] if name == b"data" => value.clone(),
        _ => {
            let mut bytes = format!("*{}\r\n", fields.len() * 2).into_bytes();
            for text in fields.iter().flat_map(|(name, value)| [name, value]) {
                bytes.extend(format!("${}\r\n", text.len()).bytes());
                bytes.extend(text);
                bytes.extend(b"\r\n");
            }
            bytes
        }
    }
}
