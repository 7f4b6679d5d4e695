//! The entries of a stream and what each of its groups has been given.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind},
    stream::{Batch, Entry, EntryId},
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// All streams by name.
#[derive(Default)]
pub(super) struct Logs {
    logs: HashMap<Arc<str>, Log>,
}

impl Logs {
    pub(super) fn get(&self, stream: &str) -> Option<&Log> {
        self.logs.get(stream)
    }

    /// The stream of this name, made if it is not there.
    pub(super) fn log(&mut self, stream: &Arc<str>) -> &mut Log {
        self.logs.entry(Arc::clone(stream)).or_default()
    }

    pub(super) fn group(&mut self, stream: &Arc<str>, group: &str) -> Result<GroupView<'_>, Error> {
        let view = self.logs.get_mut(stream).and_then(|log| {
            Some(GroupView {
                stream: Arc::clone(stream),
                entries: &log.entries,
                group: log.groups.get_mut(group)?,
            })
        });
        view.ok_or_else(|| {
            Error::new(
                ErrorKind::Stream,
                format!("stream `{stream}` has no group `{group}`; open the source first"),
            )
        })
    }
}

/// Where an entry stands: milliseconds and a number within them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    millis: u64,
    sequence: u64,
}

impl Position {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (millis, sequence) = id.split_once('-')?;
        Some(Self {
            millis: millis.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// The position of an entry that is published now: never before one that is there.
    fn next(self) -> Self {
        let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
        if now > self.millis {
            Self {
                millis: now,
                sequence: 0,
            }
        } else {
            Self {
                millis: self.millis,
                sequence: self.sequence + 1,
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// One stream.
#[derive(Default)]
pub(super) struct Log {
    entries: VecDeque<(Position, Fields)>,
    last: Position,
    groups: HashMap<Arc<str>, Group>,
}

/// What one group has been given.
#[derive(Default)]
struct Group {
    delivered: Position,
    pending: BTreeMap<Position, Pending>,
}

/// An entry that was given to a consumer and not acknowledged.
struct Pending {
    consumer: Arc<str>,
    since: Instant,
}

impl Log {
    pub(super) fn append(&mut self, stream: &Arc<str>, fields: Fields) -> EntryId {
        self.last = self.last.next();
        self.entries.push_back((self.last, fields));
        entry_id(stream, self.last)
    }

    pub(super) fn trim(&mut self, keep: usize) {
        let surplus = self.entries.len().saturating_sub(keep);
        self.entries.drain(..surplus);
    }

    pub(super) fn open_group(&mut self, group: &Arc<str>) {
        self.groups.entry(Arc::clone(group)).or_default();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn pending(&self, group: &str) -> Option<usize> {
        Some(self.groups.get(group)?.pending.len())
    }

    /// Drops entries from the front that no group needs any more.
    pub(super) fn drop_acknowledged(&mut self) {
        let Some(needed) = self.groups.values().map(Group::first_needed).min() else {
            return;
        };
        while self
            .entries
            .front()
            .is_some_and(|(position, _)| needed.is_after(*position))
        {
            self.entries.pop_front();
        }
    }
}

/// From where on a group needs entries.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Needed {
    position: Position,
    /// The entry at the position is done with too.
    exclusive: bool,
}

impl Needed {
    fn is_after(&self, position: Position) -> bool {
        position < self.position || (self.exclusive && position == self.position)
    }
}

impl Group {
    fn first_needed(&self) -> Needed {
        match self.pending.first_key_value() {
            Some((position, _)) => Needed {
                position: *position,
                exclusive: false,
            },
            None => Needed {
                position: self.delivered,
                exclusive: true,
            },
        }
    }
}

/// A group together with the entries of its stream.
pub(super) struct GroupView<'a> {
    stream: Arc<str>,
    entries: &'a VecDeque<(Position, Fields)>,
    group: &'a mut Group,
}

impl GroupView<'_> {
    /// Gives new entries to the consumer, until the batch has `count`.
    pub(super) fn deliver(&mut self, consumer: &Arc<str>, count: usize, batch: &mut Batch) {
        let start = self
            .entries
            .partition_point(|(position, _)| *position <= self.group.delivered);
        let room = count.saturating_sub(batch.entries.len());
        for (position, fields) in self.entries.range(start..).take(room) {
            self.group.delivered = *position;
            self.group.pending.insert(*position, Pending::of(consumer));
            batch.entries.push(Entry {
                id: entry_id(&self.stream, *position),
                fields: fields.clone(),
            });
        }
    }

    /// Gives the consumer's pending entries behind `from` once more, and moves `from`.
    pub(super) fn own_pending(
        &mut self,
        consumer: &Arc<str>,
        from: &mut Position,
        count: usize,
        batch: &mut Batch,
    ) {
        let behind = (Bound::Excluded(*from), Bound::Unbounded);
        let room = count.saturating_sub(batch.entries.len());
        let mut found = Vec::new();
        for (position, pending) in self.group.pending.range_mut(behind) {
            if pending.consumer == *consumer && found.len() < room {
                pending.since = Instant::now();
                found.push(*position);
            }
        }
        for position in found {
            *from = position;
            if !self.give(position, batch) {
                batch.trimmed.push(entry_id(&self.stream, position));
            }
        }
    }

    /// Gives the consumer what has been pending for `min_idle`.
    pub(super) fn claim(
        &mut self,
        consumer: &Arc<str>,
        min_idle: Duration,
        count: usize,
        batch: &mut Batch,
    ) {
        let now = Instant::now();
        let room = count.saturating_sub(batch.entries.len());
        let mut found = Vec::new();
        for (position, pending) in &mut self.group.pending {
            if now.duration_since(pending.since) >= min_idle && found.len() < room {
                *pending = Pending::of(consumer);
                found.push(*position);
            }
        }
        for position in found {
            if !self.give(position, batch) {
                self.group.pending.remove(&position);
                batch.trimmed.push(entry_id(&self.stream, position));
            }
        }
    }

    /// Whether anyone but the consumer has entries pending.
    pub(super) fn others_have_pending(&self, consumer: &Arc<str>) -> bool {
        let mut pending = self.group.pending.values();
        pending.any(|pending| pending.consumer != *consumer)
    }

    pub(super) fn acknowledge(&mut self, position: Position) {
        self.group.pending.remove(&position);
    }

    /// Puts an entry into the batch, unless it was trimmed.
    fn give(&self, position: Position, batch: &mut Batch) -> bool {
        let place = self
            .entries
            .binary_search_by_key(&position, |(position, _)| *position);
        let Some((_, fields)) = place.ok().and_then(|place| self.entries.get(place)) else {
            return false;
        };
        batch.entries.push(Entry {
            id: entry_id(&self.stream, position),
            fields: fields.clone(),
        });
        true
    }
}

impl Pending {
    fn of(consumer: &Arc<str>) -> Self {
        Self {
            consumer: Arc::clone(consumer),
            since: Instant::now(),
        }
    }
}

fn entry_id(stream: &Arc<str>, position: Position) -> EntryId {
    EntryId {
        stream: Arc::clone(stream),
        id: position.to_string(),
    }
}
