//! Publishes one batch, and finds the events in it that the broker refuses.

use std::{collections::HashMap, mem};

use super::Engine;
use crate::{
    envelope::Envelope,
    error::{Error, ErrorKind, chain},
    fail_point::{self, Point},
    outbox::{Marks, Pending},
    stream::Sink,
};

/// How often a broker that takes others must not answer for an event, sent alone.
const STRIKES: u32 = 3;

/// After so many in a row that it does not answer for, the broker is away.
const UNANSWERED: usize = 3;

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// What the broker has answered for.
    pub(super) marks: Marks,
    /// Why the rest is to be sent again.
    pub(super) failure: Option<Error>,
}

/// What is remembered of batches that the broker did not answer for.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// The last one failed with an error that passes: the next begins with its first event alone.
    is_careful: bool,
    /// How often events were not answered for while others were.
    strikes: HashMap<i64, u32>,
}

/// Publishes events in their order.
///
/// A part that is refused is halved until the event is found that is to blame. It is a dead letter at once
/// if the error says that it is about the event; else only when the broker has taken the next one: a broker
/// that refuses everything is away, and nobody's fault.
///
/// An error that passes ends the batch, so that no event overtakes another. It may be an event's fault
/// all the same: some servers close the connection on what is too large for them. So the next batch begins
/// with single events. One that is not answered for is left out, with all of its aggregate, and is a dead
/// letter when that has happened three times while others were taken.
pub(super) async fn send<T, K: Sink>(
    engine: &Engine<T, K>,
    events: &[Pending],
    doubts: &mut Doubts,
) -> Sent {
    let mut batch = Batch::new(events, doubts.is_careful);
    while let Some((part, _)) = batch.left.split_at_checked(batch.size)
        && !part.is_empty()
    {
        let envelopes: Vec<_> = part.iter().map(|event| event.envelope.clone()).collect();
        match send_part(engine, &envelopes).await {
            Ok(entries) => {
                engine.vitals.note_published();
                engine.counters.published.add_len(entries.len());
                batch.taken(&entries);
            }
            Err(error) if error.is_transient() => {
                if !batch.unanswered(error) {
                    break;
                }
            }
            Err(_) if part.len() > 1 => batch.size = part.len().div_ceil(2),
            Err(error) => batch.refused(error),
        }
    }
    batch.end(doubts)
}

/// Publishes a part of a batch; answers the ids of its entries.
async fn send_part<T, K: Sink>(
    engine: &Engine<T, K>,
    part: &[Envelope],
) -> Result<Vec<String>, Error> {
    fail_point::reach(Point::BeforeSend).await?;
    let entries = engine.vitals.broker.ask(engine.sink.send(part)).await?;
    fail_point::reach(Point::AfterSend).await?;
    let mut ids: Vec<String> = entries.into_iter().map(|entry| entry.id).collect();
    // A sink of the user's that names fewer has published all the same.
    ids.resize(part.len(), String::new());
    Ok(ids)
}

/// A batch on its way.
struct Batch<'e> {
    left: Vec<&'e Pending>,
    /// How many are sent next.
    size: usize,
    is_careful: bool,
    sent: Sent,
    /// Rows that the broker has refused, without saying that they are to blame.
    suspects: Vec<(i64, String)>,
    /// Rows that the broker has not answered for, sent alone.
    unanswered: Vec<(i64, String)>,
    unanswered_in_a_row: usize,
}

impl<'e> Batch<'e> {
    fn new(events: &'e [Pending], is_careful: bool) -> Self {
        let left: Vec<&Pending> = events.iter().collect();
        Self {
            size: if is_careful { 1 } else { left.len() },
            left,
            is_careful,
            sent: Sent::default(),
            suspects: Vec::new(),
            unanswered: Vec::new(),
            unanswered_in_a_row: 0,
        }
    }

    /// The broker has the part; who was refused before it is to blame.
    fn taken(&mut self, entries: &[String]) {
        let rows = self.left.drain(..entries.len());
        let published = rows.map(|event| event.id).zip(entries.iter().cloned());
        self.sent.marks.published.extend(published);
        self.sent.marks.refused.append(&mut self.suspects);
        if self.unanswered.is_empty() {
            self.sent.failure = None;
        }
        self.unanswered_in_a_row = 0;
        self.size = if self.is_careful {
            self.left.len().min(self.size * 2)
        } else {
            self.left.len()
        };
    }

    /// The broker refuses the part, which is one event.
    fn refused(&mut self, error: Error) {
        let refused = (self.left.remove(0).id, chain(&error));
        self.size = self.left.len();
        if matches!(error.kind(), ErrorKind::Encode | ErrorKind::Refused) {
            self.sent.marks.refused.push(refused);
        } else {
            self.suspects.push(refused);
            self.sent.failure = Some(error);
        }
        if self.is_careful || !self.suspects.is_empty() {
            // One more, to see whether it takes any.
            self.size = self.size.min(1);
        }
    }

    /// The broker does not answer for the part; says whether to go on with other aggregates.
    fn unanswered(&mut self, error: Error) -> bool {
        let reason = chain(&error);
        self.sent.failure = Some(error);
        self.unanswered_in_a_row += 1;
        let Some(event) = self.left.first().copied().filter(|_| self.size == 1) else {
            return false;
        };
        if !self.is_careful {
            return false;
        }
        self.unanswered.push((event.id, reason));
        let aggregate = event.envelope.metadata().aggregate_id;
        self.left
            .retain(|other| other.envelope.metadata().aggregate_id != aggregate);
        self.size = self.left.len().min(1);
        self.unanswered_in_a_row < UNANSWERED
    }

    /// Counts what was not answered for while others were.
    fn end(mut self, doubts: &mut Doubts) -> Sent {
        doubts.is_careful = self.sent.failure.as_ref().is_some_and(Error::is_transient);
        for (row, _) in &self.sent.marks.published {
            doubts.strikes.remove(row);
        }
        // One that has taken nothing is away.
        if !self.sent.marks.published.is_empty() {
            for (row, reason) in mem::take(&mut self.unanswered) {
                let strikes = doubts.strikes.entry(row).or_default();
                *strikes += 1;
                if *strikes == STRIKES {
                    doubts.strikes.remove(&row);
                    self.sent.marks.refused.push((row, reason));
                }
            }
        }
        self.sent
    }
}
