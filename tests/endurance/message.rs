//! What producers publish: events of every kind, duplicates, and entries that are no events.

use std::collections::VecDeque;

use chrono::DateTime;
use eventflow::{
    Envelope,
    envelope::wire::{self, Limits},
    prelude::Uuid,
};
use eventflow_tests::work::{End, WorkRequested};
use fastrand::Rng;

/// Names and values of one entry.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Of so many messages, in percent.
const DUPLICATES: u8 = 10;
const MALFORMED: f64 = 0.01;
const FAIL_ONCE: f64 = 0.05;
const FAIL_ALWAYS: f64 = 0.01;

/// How far back a duplicate reaches.
const REMEMBERED: usize = 500;

/// In order, an event that fails or takes long holds up those behind it: there are enough of the others for
/// the workers to keep up with what is published.
const AGGREGATES: u128 = 64;
const LONGEST_WORK_MS: u32 = 20;

/// So many take this long instead: a fault finds their worker in the middle.
const LONG_WORKS: f64 = 0.02;
pub(crate) const LONG_WORK_MS: u32 = 500;

/// What must become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// It is done.
    Done,
    /// It is done in a later run than the first.
    FailsOnce,
    /// A dead letter after all its runs.
    FailsAlways,
    /// A dead letter after its first run.
    Refused,
}

/// A well-formed event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) aggregate: Uuid,
}

/// One entry to publish.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) fields: Fields,
    /// `None` if the entry is malformed.
    pub(crate) event: Option<Event>,
}

/// The messages of one producer, without an end. The same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Messages {
    producer: &'static str,
    rng: Rng,
    count: u32,
    recent: VecDeque<Message>,
}

impl Messages {
    pub(crate) fn new(producer: &'static str, rng: Rng) -> Self {
        Self {
            producer,
            rng,
            count: 0,
            recent: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// Between one and so many messages.
    pub(crate) fn some(&mut self, most: usize) -> Vec<Message> {
        let count = self.rng.usize(1..=most);
        (0..count).map(|_| self.next()).collect()
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Message {
        if !self.recent.is_empty() && self.rng.u8(..100) < DUPLICATES {
            let again = self.rng.usize(..self.recent.len());
            return self.recent[again].clone();
        }
        self.count += 1;
        let id = format!("{}-{:06}", self.producer, self.count);
        let lot = self.rng.f64();
        if lot < MALFORMED {
            let fields = self.malformed(&id);
            return Message {
                fields,
                event: None,
            };
        }
        let kind = match lot - MALFORMED {
            lot if lot < FAIL_ALWAYS / 2.0 => Kind::FailsAlways,
            lot if lot < FAIL_ALWAYS => Kind::Refused,
            lot if lot < FAIL_ALWAYS + FAIL_ONCE => Kind::FailsOnce,
            _ => Kind::Done,
        };
        let message = self.event(id, kind);
        self.recent.truncate(REMEMBERED - 1);
        self.recent.push_front(message.clone());
        message
    }

    fn event(&mut self, id: String, kind: Kind) -> Message {
        let envelope = self.envelope(&id, kind);
        let fields = if self.rng.bool() {
            wire::write(&envelope, Limits::default()).unwrap()
        } else {
            flattened(&envelope)
        };
        let aggregate = envelope.metadata().aggregate_id;
        Message {
            fields,
            event: Some(Event {
                id,
                kind,
                aggregate,
            }),
        }
    }

    fn envelope(&mut self, id: &str, kind: Kind) -> Envelope {
        let work = WorkRequested {
            work_id: Uuid::from_u128(self.rng.u128(1..=AGGREGATES)),
            takes_ms: if self.rng.f64() < LONG_WORKS {
                LONG_WORK_MS
            } else {
                self.rng.u32(..=LONGEST_WORK_MS)
            },
            end: match kind {
                Kind::Done => End::Done,
                Kind::FailsOnce => End::FailOnce,
                Kind::FailsAlways => End::Fail,
                Kind::Refused => End::Refuse,
            },
        };
        let time = DateTime::from_timestamp(1_700_000_000 + i64::from(self.count), 0);
        Envelope::new(&work)
            .unwrap()
            .with_event_id(id)
            .with_occurred_on(time.unwrap())
    }

    /// An entry that holds no readable event; the id makes its bytes unique.
    fn malformed(&mut self, id: &str) -> Fields {
        let envelope = self.envelope(id, Kind::Done);
        let data = wire::write(&envelope, Limits::default()).unwrap().remove(0);
        let mut fields = flattened(&envelope);
        match self.rng.u8(..7) {
            0 => vec![(data.0, data.1[..data.1.len() / 2].to_vec())],
            1 => vec![(data.0, [&data.1[..], b"\xff"].concat())],
            2 => vec![(data.0, format!("[\"{id}\"]").into_bytes())],
            3 => vec![(b"nonsense".to_vec(), id.as_bytes().to_vec())],
            4 => {
                // Without an aggregate.
                fields.remove(2);
                fields
            }
            5 => {
                fields[3].1 = b"2026-01-01T00:00:00".to_vec();
                fields
            }
            _ => {
                fields[4].1 = b"[]".to_vec();
                fields
            }
        }
    }
}

/// The style of an entry with one field per member.
fn flattened(envelope: &Envelope) -> Fields {
    let metadata = envelope.metadata();
    let members = [
        ("event_id", metadata.event_id.clone()),
        ("event_type", metadata.event_type.clone()),
        ("aggregate_id", metadata.aggregate_id.to_string()),
        ("occurred_on", metadata.occurred_on.to_rfc3339()),
        ("payload", envelope.payload().as_str().to_owned()),
    ];
    let members = members.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    members.to_vec()
}
