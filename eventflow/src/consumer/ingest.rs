//! From the stream into the inbox: read, store, acknowledge, hand to the workers.
//!
//! An entry is acknowledged only when its row has been committed. A process that dies before that
//! leaves the entry pending at the server; one that dies after it leaves a leased row.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    arrival::{admit, quarantine},
    engine::Engine,
    outage::Outage,
};
use crate::{
    envelope::Payload,
    error::{Error, Result, chain},
    fail_point::{self, Point},
    inbox::{Arrival, Inbox, Insertion, Row},
    stream::{Batch, Entry, EntryId, Source},
};

/// How many bytes of events one statement carries, unless a single event is larger.
const STATEMENT_BYTES: usize = 8 * 1024 * 1024;

/// Reads new entries until the consumer stops.
pub(super) async fn read<Src, I>(engine: Arc<Engine<Src, I>>, queue: mpsc::Sender<Row>)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("reading the stream");
    let mut acknowledged = Acknowledgements::default();
    while let Some(room) = room(&engine, &queue).await {
        let batch = match read_batch(&engine).await {
            Ok(batch) => batch,
            Err(error) => {
                drop(room);
                if !outage.wait_unless(&engine.stopping, &error).await {
                    break;
                }
                continue;
            }
        };
        outage.over();
        if let Some(rows) = take_in(&engine, &mut acknowledged, batch).await {
            enqueue(room, &queue, rows).await;
        }
    }
    acknowledged.flush(&engine).await;
}

async fn read_batch<Src: Source, I: Inbox>(engine: &Engine<Src, I>) -> Result<Batch> {
    let settings = &engine.settings;
    let read = engine
        .source
        .read(settings.batch_size, Some(settings.block));
    let batch = read.await?;
    if !batch.is_empty() {
        fail_point::reach(Point::AfterRead).await?;
    }
    Ok(batch)
}

/// Takes over what other consumers of the group have left pending, until the consumer stops.
pub(super) async fn take_over<Src, I>(engine: Arc<Engine<Src, I>>, queue: mpsc::Sender<Row>)
where
    Src: Source,
    I: Inbox,
{
    let mut outage = Outage::new("claiming entries of other consumers");
    let mut acknowledged = Acknowledgements::default();
    let idle = engine.settings.claim_idle;
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = engine.stopping.cancelled() => break,
            _ = ticks.tick() => {}
        }
        // An empty claim ends the round; until then there may be more than one batch.
        loop {
            let Some(room) = room(&engine, &queue).await else {
                break;
            };
            let batch = match engine.source.claim(idle, engine.settings.batch_size).await {
                Ok(batch) => batch,
                Err(error) => {
                    drop(room);
                    outage.wait_unless(&engine.stopping, &error).await;
                    break;
                }
            };
            outage.over();
            engine.counters.claimed.add_len(batch.entries.len());
            if batch.is_empty() {
                break;
            }
            if let Some(rows) = take_in(&engine, &mut acknowledged, batch).await {
                enqueue(room, &queue, rows).await;
            }
        }
    }
    acknowledged.flush(&engine).await;
}

/// Waits for room for a whole batch; `None` if the consumer stops.
async fn room<'q, Src, I: Inbox>(
    engine: &Engine<Src, I>,
    queue: &'q mpsc::Sender<Row>,
) -> Option<mpsc::PermitIterator<'q, Row>> {
    tokio::select! {
        biased;
        () = engine.stopping.cancelled() => None,
        room = queue.reserve_many(engine.settings.batch_size) => room.ok(),
    }
}

/// Gives rows to the workers. A source that gave more than it was asked for has to wait.
async fn enqueue(
    mut room: mpsc::PermitIterator<'_, Row>,
    queue: &mpsc::Sender<Row>,
    rows: Vec<Row>,
) {
    for row in rows {
        match room.next() {
            Some(permit) => permit.send(row),
            // The workers outlive every sender, so a row is never refused here.
            None => queue.send(row).await.unwrap_or_default(),
        }
    }
}

/// Stores a batch and acknowledges it; answers the rows to run. `None` if the consumer stopped
/// before the inbox took it: the entries stay pending at the server.
pub(super) async fn take_in<Src, I>(
    engine: &Engine<Src, I>,
    acknowledged: &mut Acknowledgements,
    batch: Batch,
) -> Option<Vec<Row>>
where
    Src: Source,
    I: Inbox,
{
    if batch.is_empty() {
        acknowledged.flush(engine).await;
        return Some(Vec::new());
    }
    engine.counters.read.add_len(batch.entries.len());
    engine.counters.trimmed.add_len(batch.trimmed.len());
    if !batch.trimmed.is_empty() {
        tracing::error!(
            entries = batch.trimmed.len(),
            "entries were trimmed from the stream before they were stored: they are lost; do not trim what a group has not acknowledged"
        );
    }
    let routes = engine.dispatcher.routes();
    let arrivals: Vec<(&Entry, Arrival)> = batch
        .entries
        .iter()
        .filter_map(|entry| {
            let arrival = admit(entry, &engine.settings, &routes, &engine.counters)?;
            Some((entry, arrival))
        })
        .collect();
    let mut outage = Outage::new("storing a batch");
    let mut storing = Storing::new(arrivals);
    while let Err(error) = storing.store(engine).await {
        if !outage.wait_unless(&engine.stopping, &error).await {
            engine.hand_back(&storing.stored.rows).await;
            return None;
        }
    }
    outage.over();
    let insertion = storing.stored;
    engine.held.add(&insertion.rows);
    engine.counters.stored.add_len(insertion.rows.len());
    engine.counters.duplicates.add(insertion.duplicates);
    let entries = batch.entries.into_iter().map(|entry| entry.id);
    acknowledged.add(entries.chain(batch.trimmed));
    acknowledged.flush(engine).await;
    Some(insertion.rows)
}

/// A batch on its way into the inbox.
///
/// Entries may be few and large, so it is stored in parts that a statement can carry. A part that
/// the database refuses is halved until the refused one is alone, so that it cannot keep the others
/// out. What is stored stays so when a later part has to be tried again.
struct Storing<'b> {
    /// The last is stored next.
    parts: Vec<Vec<(&'b Entry, Arrival)>>,
    stored: Insertion,
}

impl<'b> Storing<'b> {
    fn new(arrivals: Vec<(&'b Entry, Arrival)>) -> Self {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for (entry, arrival) in arrivals {
            let raw = arrival.raw.as_ref().map_or(0, Vec::len);
            let more = raw + arrival.payload.as_str().len();
            bytes += more;
            if bytes > STATEMENT_BYTES {
                parts.push(Vec::new());
                bytes = more;
            }
            if let Some(part) = parts.last_mut() {
                part.push((entry, arrival));
            }
        }
        parts.reverse();
        Self {
            parts,
            stored: Insertion::default(),
        }
    }

    /// Stores what is left; an error is one that passes, and the call is to be repeated.
    async fn store<Src, I>(&mut self, engine: &Engine<Src, I>) -> Result<()>
    where
        Src: Source,
        I: Inbox,
    {
        while let Some(part) = self.parts.last_mut() {
            let batch: Vec<_> = part.iter().map(|(_, arrival)| arrival.clone()).collect();
            let inserted = match batch.len() {
                0 => Ok(Insertion::default()),
                _ => insert(engine, batch).await,
            };
            match inserted {
                Ok(insertion) => self.stored.absorb(insertion),
                Err(error) if error.is_transient() => return Err(error),
                Err(_) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    let first = std::mem::replace(part, rest);
                    self.parts.push(first);
                    continue;
                }
                Err(error) => {
                    for (entry, arrival) in part.iter() {
                        let kept = store_refused(engine, entry, arrival.clone(), &error).await?;
                        self.stored.absorb(kept);
                    }
                }
            }
            self.parts.pop();
        }
        Ok(())
    }
}

/// Stores an arrival that the database refuses: with its payload as bytes, or else as a dead
/// letter with the bytes of its entry.
async fn store_refused<Src, I>(
    engine: &Engine<Src, I>,
    entry: &Entry,
    arrival: Arrival,
    refusal: &Error,
) -> Result<Insertion>
where
    Src: Source,
    I: Inbox,
{
    if arrival.raw.is_none() {
        let with_raw = Arrival {
            raw: Some(arrival.payload.as_str().as_bytes().to_vec()),
            payload: Payload::empty(),
            ..arrival
        };
        match insert(engine, vec![with_raw]).await {
            Err(error) if error.is_transient() => return Err(error),
            Err(_) => {}
            Ok(insertion) => return Ok(insertion),
        }
    }
    let reason = format!("the database refused the event: {}", chain(refusal));
    tracing::warn!(
        stream = %entry.id.stream,
        entry_id = entry.id.id,
        reason,
        "entry kept as a dead letter"
    );
    engine.counters.malformed.one();
    insert(engine, vec![quarantine(entry, &reason)]).await
}

async fn insert<Src, I: Inbox>(
    engine: &Engine<Src, I>,
    arrivals: Vec<Arrival>,
) -> Result<Insertion> {
    let insertion = engine.inbox.insert(&engine.holder, arrivals).await?;
    fail_point::reach(Point::AfterCommit).await?;
    Ok(insertion)
}

/// Entries whose rows are committed and that are yet to be acknowledged.
///
/// What cannot be acknowledged now is kept for the next time. If the process dies before, the
/// entries come again and are found to be duplicates.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    waiting: Vec<EntryId>,
}

impl Acknowledgements {
    fn add(&mut self, entries: impl IntoIterator<Item = EntryId>) {
        self.waiting.extend(entries);
    }

    pub(super) async fn flush<Src, I>(&mut self, engine: &Engine<Src, I>)
    where
        Src: Source,
        I: Inbox,
    {
        if self.waiting.is_empty() {
            return;
        }
        let acknowledging = async {
            fail_point::reach(Point::BeforeAck).await?;
            engine.source.acknowledge(&self.waiting).await?;
            fail_point::reach(Point::AfterAck).await
        };
        match acknowledging.await {
            Ok(()) => self.waiting.clear(),
            Err(error) => tracing::warn!(
                entries = self.waiting.len(),
                error = chain(&error),
                "stored entries could not be acknowledged yet"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        const MIB: usize = 1024 * 1024;
        let sizes = [1, 7 * MIB, MIB, 9 * MIB, 1, 1];
        let entries = sizes.map(entry_of);
        let arrivals = entries
            .iter()
            .map(|entry| (entry, quarantine(entry, "too large")));

        let storing = Storing::new(arrivals.collect());

        let raw = |arrival: &Arrival| arrival.raw.as_ref().map_or(0, Vec::len);
        let parts: Vec<Vec<usize>> = storing
            .parts
            .iter()
            .rev()
            .map(|part| part.iter().map(|(_, arrival)| raw(arrival)).collect())
            .collect();
        assert_eq!(
            parts,
            [vec![1, 7 * MIB], vec![MIB], vec![9 * MIB], vec![1, 1]]
        );
    }
}
