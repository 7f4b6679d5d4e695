//! A batch of entries on its way into the inbox.
//!
//! What was read is counted here, once it is stored, so that the counts add up: each entry is one of
//! stored, duplicate, malformed, ignored or unknown.

use std::time::Duration;

use uuid::Uuid;

use super::{
    arrival::{Content, Kind, admit, quarantine},
    engine::Engine,
    outage::Outage,
    reader::Reading,
};
use crate::{
    error::{Error, ErrorKind, Result, chain},
    fail_point::{self, Point},
    inbox::{Admission, Arrival, Inbox, Insertion, Lease, Row},
    stream::Entry,
};

/// How many bytes of events one statement carries, unless a single event is larger.
const STATEMENT_BYTES: usize = 2 * 1024 * 1024;

/// An entry that is to become a row.
struct Arriving<'b> {
    entry: &'b Entry,
    kind: Kind,
    /// Fixed before the first try: what an insert has stored without answering is known again.
    row: Uuid,
    content: Content,
}

impl Arriving<'_> {
    fn arrival(&self) -> Arrival {
        match &self.content {
            Content::Event(arrival) => arrival.clone(),
            Content::Malformed(reason) => quarantine(self.row, self.entry, reason),
        }
    }

    /// Why the row is kept without a run.
    fn reason(&self) -> &str {
        match &self.content {
            Content::Malformed(reason)
            | Content::Event(Arrival {
                admission: Admission::DeadLetter(reason),
                ..
            }) => reason,
            Content::Event(_) => "",
        }
    }

    /// Whether its row is not to run in this process.
    fn is_kept(&self) -> bool {
        match &self.content {
            Content::Event(arrival) => arrival.admission != Admission::Run,
            Content::Malformed(_) => true,
        }
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::Event(arrival) => arrival.envelope.payload().as_str().len(),
            Content::Malformed(_) => self.entry.bytes(),
        }
    }
}

/// A batch that is being stored.
///
/// Entries may be few and large, so it is stored in parts that a statement can carry. A part that
/// the database refuses is halved until the refused one is alone, so that it cannot keep the others
/// out. What is stored stays so when a later part has to be tried again.
pub(super) struct Storing<'b> {
    /// The last is stored next.
    parts: Vec<Vec<Arriving<'b>>>,
    /// Rows of this batch to run.
    rows: Vec<Row>,
    /// An insert was not answered, or a unit was lost that had inserted them, so what is a duplicate now may be
    /// its row.
    unanswered: bool,
    /// Duplicates that may be rows to run of an insert that was not answered.
    doubtful: Vec<Lease>,
    /// The same of rows that are not to run in this process.
    doubtful_kept: Vec<Arriving<'b>>,
    /// The right to read, if the rows are to be in order.
    reading: Option<&'b Reading>,
}

impl<'b> Storing<'b> {
    /// Sorts a batch, in which events with a handler enter by `admission`; entries that need no row are
    /// done with it.
    pub(super) fn new<Src, I: Inbox>(
        engine: &Engine<Src, I>,
        entries: &'b [Entry],
        admission: &Admission,
    ) -> Self {
        let routes = engine.dispatcher.routes();
        let mut arriving = Vec::with_capacity(entries.len());
        for entry in entries {
            let row = Uuid::now_v7();
            match admit(row, entry, admission, &engine.settings, &routes) {
                (kind, Some(content)) => arriving.push(Arriving {
                    entry,
                    kind,
                    row,
                    content,
                }),
                (kind, None) => engine.note_arrival(entry, kind, ""),
            }
        }
        Self {
            parts: parts_of(arriving),
            rows: Vec::new(),
            unanswered: false,
            doubtful: Vec::new(),
            doubtful_kept: Vec::new(),
            reading: None,
        }
    }

    /// Has the rows stored in the order of the one reader.
    pub(super) fn read_by(mut self, reading: Option<&'b Reading>) -> Self {
        self.reading = reading;
        self
    }

    fn way(&self) -> Way<'b> {
        Way {
            reading: self.reading,
            is_repeated: self.unanswered,
        }
    }

    fn is_lost(&self) -> bool {
        self.reading
            .is_some_and(|reading| reading.lost.is_cancelled())
    }

    /// Stores what is left; after an error, which is none of the entries', the call is to be repeated.
    async fn store<Src, I>(&mut self, engine: &Engine<Src, I>) -> Result<()>
    where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        let way = self.way();
        while let Some(part) = self.parts.last_mut() {
            let arrivals = part.iter().map(Arriving::arrival).collect();
            match insert(engine, way, arrivals).await {
                Ok(insertion) => {
                    let stored = std::mem::take(part);
                    self.parts.pop();
                    self.note(engine, stored, insertion);
                }
                Err(error) if error.kind() != ErrorKind::Refused => {
                    self.unanswered = true;
                    return Err(error);
                }
                Err(error) if part.len() > 1 => {
                    tracing::debug!(
                        entries = part.len(),
                        error = chain(&error),
                        "the database refused a batch; halving it"
                    );
                    let rest = part.split_off(part.len() / 2);
                    let first = std::mem::replace(part, rest);
                    self.parts.push(first);
                }
                Err(error) => {
                    let mut kept = Vec::with_capacity(part.len());
                    for refused in part.iter() {
                        let stored = store_refused(engine, way, refused, &error).await;
                        self.unanswered |= stored.is_err();
                        kept.push(stored?);
                    }
                    self.parts.pop();
                    for (arriving, insertion) in kept {
                        self.note(engine, vec![arriving], insertion);
                    }
                }
            }
        }
        self.release_doubtful(engine).await?;
        self.count_doubtful_kept(engine).await
    }

    /// The arrivals of a batch that one statement carries, none of which was tried before.
    pub(super) fn whole(&self) -> Option<Vec<Arrival>> {
        match self.parts.as_slice() {
            [part] if !part.is_empty() => Some(part.iter().map(Arriving::arrival).collect()),
            _ => None,
        }
    }

    /// Notes that the whole batch is committed, but for these duplicates.
    pub(super) fn note_whole<Src, I>(&mut self, engine: &Engine<Src, I>, duplicates: &[Uuid])
    where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        for part in std::mem::take(&mut self.parts) {
            self.count(engine, part, duplicates);
        }
    }

    /// Notes that the whole batch may be stored already.
    pub(super) fn note_unanswered(&mut self) {
        self.unanswered = true;
    }

    fn note<Src, I>(
        &mut self,
        engine: &Engine<Src, I>,
        stored: Vec<Arriving<'b>>,
        insertion: Insertion,
    ) where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        engine.held.add(&insertion.rows);
        self.rows.extend(insertion.rows);
        self.count(engine, stored, &insertion.duplicates);
    }

    fn count<Src, I>(
        &mut self,
        engine: &Engine<Src, I>,
        stored: Vec<Arriving<'b>>,
        duplicates: &[Uuid],
    ) where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        let mut events = 0;
        for arriving in stored {
            if !duplicates.contains(&arriving.row) {
                match arriving.kind {
                    Kind::Event => events += 1,
                    kind => engine.note_arrival(arriving.entry, kind, arriving.reason()),
                }
            } else if !self.unanswered {
                engine.note_duplicates(1);
            } else if arriving.is_kept() {
                self.doubtful_kept.push(arriving);
            } else {
                self.doubtful.push(Lease::first(arriving.row));
            }
        }
        engine.counters.read.add(events);
        engine.counters.stored.add(events);
    }

    /// Makes rows due at once that an insert stored without answering; the others are duplicates.
    async fn release_doubtful<Src, I>(&mut self, engine: &Engine<Src, I>) -> Result<()>
    where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        if self.doubtful.is_empty() {
            return Ok(());
        }
        let leases = self.doubtful.clone();
        engine.inbox.release(leases, Duration::ZERO).await?;
        // Not those that are released: in order, one may wait for its turn.
        let rows: Vec<Uuid> = self.doubtful.iter().map(|lease| lease.id).collect();
        let stored = engine.inbox.count_stored(&rows).await?;
        let doubtful = std::mem::take(&mut self.doubtful).len() as u64;
        engine.counters.read.add(stored);
        engine.counters.stored.add(stored);
        engine.note_duplicates(doubtful.saturating_sub(stored));
        engine.due_changed.notify_one();
        Ok(())
    }

    /// Counts what an insert stored without answering; the others are duplicates.
    async fn count_doubtful_kept<Src, I>(&mut self, engine: &Engine<Src, I>) -> Result<()>
    where
        Src: Send + Sync + 'static,
        I: Inbox,
    {
        while let Some(arriving) = self.doubtful_kept.last() {
            if engine.inbox.count_stored(&[arriving.row]).await? > 0 {
                engine.note_arrival(arriving.entry, arriving.kind, arriving.reason());
            } else {
                engine.note_duplicates(1);
            }
            self.doubtful_kept.pop();
        }
        Ok(())
    }
}

/// Stores a batch, and gives its rows to run; `None` if the consumer stopped, or lost the right to read, before the inbox took all
/// of it: the entries stay pending at the server.
pub(super) async fn store<Src, I>(
    engine: &Engine<Src, I>,
    storing: &mut Storing<'_>,
) -> Option<Vec<Row>>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut outage = Outage::new("storing a batch", &engine.vitals.database);
    while let Err(error) = storing.store(engine).await {
        if storing.is_lost() {
            tracing::warn!(error = chain(&error), "a batch is left to another process");
            let stored = storing.rows.iter().map(|row| row.lease).collect();
            engine.release(stored, Duration::ZERO).await;
            return None;
        }
        if !outage.wait_unless(&engine.stopping, &error).await {
            engine.hand_back(&storing.rows).await;
            return None;
        }
    }
    outage.over();
    Some(std::mem::take(&mut storing.rows))
}

/// Cuts a batch into parts that a statement can carry; the first one is the last in the list.
fn parts_of(batch: Vec<Arriving<'_>>) -> Vec<Vec<Arriving<'_>>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for arriving in batch {
        let more = arriving.bytes();
        bytes += more;
        if bytes > STATEMENT_BYTES {
            parts.push(Vec::new());
            bytes = more;
        }
        if let Some(part) = parts.last_mut() {
            part.push(arriving);
        }
    }
    parts.reverse();
    parts
}

/// How arrivals are stored.
#[derive(Clone, Copy)]
struct Way<'r> {
    reading: Option<&'r Reading>,
    /// An insert of theirs may have stored them without an answer.
    is_repeated: bool,
}

async fn insert<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    way: Way<'_>,
    arrivals: Vec<Arrival>,
) -> Result<Insertion> {
    if arrivals.is_empty() {
        return Ok(Insertion::default());
    }
    let (inbox, holder, database) = (&engine.inbox, &engine.holder, &engine.vitals.database);
    let insertion = match way.reading {
        None if way.is_repeated => database.ask(inbox.insert_again(holder, arrivals)).await?,
        None => database.ask(inbox.insert(holder, arrivals)).await?,
        Some(reading) => {
            let inserting = inbox.insert_in_order(holder, &reading.lease, arrivals);
            let inserted = database.ask(inserting).await?;
            inserted.ok_or_else(|| {
                reading.lost.cancel();
                Error::new(
                    ErrorKind::Inbox,
                    "another process reads the stream by now, and stores its entries",
                )
            })?
        }
    };
    engine.vitals.note_commit();
    fail_point::reach(Point::AfterCommit).await?;
    Ok(insertion)
}

/// Stores an arrival that the database refuses: with its payload as bytes, or else as a dead
/// letter with the bytes of its entry.
async fn store_refused<'b, Src, I: Inbox>(
    engine: &Engine<Src, I>,
    way: Way<'_>,
    refused: &Arriving<'b>,
    refusal: &Error,
) -> Result<(Arriving<'b>, Insertion)> {
    let Arriving {
        entry, kind, row, ..
    } = *refused;
    if let Content::Event(arrival) = &refused.content {
        let arrival = arrival.clone().with_payload_as_bytes();
        match insert(engine, way, vec![arrival.clone()]).await {
            Err(error) if error.kind() != ErrorKind::Refused => return Err(error),
            Err(_) => {}
            Ok(insertion) => {
                let arriving = Arriving {
                    entry,
                    kind,
                    row,
                    content: Content::Event(arrival),
                };
                return Ok((arriving, insertion));
            }
        }
    }
    let reason = format!("the database refused the event: {}", chain(refusal));
    let arriving = Arriving {
        entry,
        kind: Kind::Malformed,
        row,
        content: Content::Malformed(reason),
    };
    let insertion = insert(engine, way, vec![arriving.arrival()]).await?;
    Ok((arriving, insertion))
}

impl<Src, I: Inbox> Engine<Src, I> {
    fn note_duplicates(&self, duplicates: u64) {
        self.counters.read.add(duplicates);
        self.counters.duplicates.add(duplicates);
    }

    /// Counts and logs what an entry came to that is no duplicate.
    fn note_arrival(&self, entry: &Entry, kind: Kind, reason: &str) {
        self.counters.read.one();
        let (stream, entry_id) = (&*entry.id.stream, &*entry.id.id);
        match kind {
            Kind::Event => self.counters.stored.one(),
            Kind::Ignored => self.counters.ignored.one(),
            Kind::Malformed => {
                self.counters.malformed.one();
                tracing::warn!(stream, entry_id, reason, "entry kept as a dead letter");
            }
            Kind::Unknown => {
                self.counters.unknown.one();
                tracing::warn!(
                    stream,
                    entry_id,
                    policy = ?self.settings.unknown_events,
                    reason,
                    "no handler for events of this type"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::EntryId;

    fn entry_of(bytes: usize) -> Entry {
        Entry {
            id: EntryId {
                stream: Arc::from("orders"),
                id: "1700000000000-0".to_owned(),
            },
            fields: vec![(b"data".to_vec(), vec![b'x'; bytes])],
        }
    }

    #[test]
    fn a_batch_is_stored_in_parts_that_a_statement_carries() {
        const PART: usize = STATEMENT_BYTES / 8;
        let entries = [1, 7 * PART, PART, 9 * PART, 1, 1].map(entry_of);
        let batch = entries.iter().map(|entry| Arriving {
            entry,
            kind: Kind::Malformed,
            row: Uuid::now_v7(),
            content: Content::Malformed("too large".to_owned()),
        });

        let parts = parts_of(batch.collect());

        let size = |arriving: &Arriving<'_>| arriving.bytes() - "data".len();
        let sizes: Vec<Vec<usize>> = parts
            .iter()
            .rev()
            .map(|part| part.iter().map(size).collect())
            .collect();
        assert_eq!(
            sizes,
            [vec![1, 7 * PART], vec![PART], vec![9 * PART], vec![1, 1]]
        );
    }
}
