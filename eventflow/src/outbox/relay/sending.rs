//! Publishes one batch, and finds the events in it that the broker refuses.

use super::Engine;
use crate::{
    envelope::Envelope,
    error::{Error, ErrorKind, chain},
    fail_point::{self, Point},
    outbox::{Marks, Pending},
    stream::Sink,
};

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// What the broker has answered for.
    pub(super) marks: Marks,
    /// Why the rest is to be sent again.
    pub(super) failure: Option<Error>,
}

/// Publishes events in their order.
///
/// A part that is refused is halved until the event is found that is to blame. It is a dead letter at once
/// if the error says that it is about the event; else only when the broker has taken the next one: a broker
/// that refuses everything is away, and nobody's fault. An error that passes ends the batch, so that no
/// event overtakes another.
pub(super) async fn send<T, K: Sink>(engine: &Engine<T, K>, events: &[Pending]) -> Sent {
    let envelopes = events.iter().map(|event| event.envelope.clone());
    let envelopes: Vec<Envelope> = envelopes.collect();
    let mut batch = Batch {
        events,
        sent: Sent::default(),
        suspects: Vec::new(),
        from: 0,
        size: events.len(),
    };
    while let Some(part) = envelopes.get(batch.from..batch.from + batch.size)
        && !part.is_empty()
    {
        match send_part(engine, part).await {
            Ok(entries) => {
                engine.vitals.note_published();
                engine.counters.published.add_len(part.len());
                batch.taken(&entries);
            }
            Err(error) if error.is_transient() => {
                batch.sent.failure = Some(error);
                break;
            }
            Err(_) if part.len() > 1 => batch.size = part.len().div_ceil(2),
            Err(error) => batch.refused(error),
        }
    }
    batch.sent
}

/// Publishes a part of a batch; answers the ids of its entries.
async fn send_part<T, K: Sink>(
    engine: &Engine<T, K>,
    part: &[Envelope],
) -> Result<Vec<String>, Error> {
    fail_point::reach(Point::BeforeSend).await?;
    let entries = engine.vitals.broker.ask(engine.sink.send(part)).await?;
    fail_point::reach(Point::AfterSend).await?;
    Ok(entries.into_iter().map(|entry| entry.id).collect())
}

/// A batch on its way.
struct Batch<'e> {
    events: &'e [Pending],
    sent: Sent,
    /// Rows that the broker has refused, without saying that they are to blame.
    suspects: Vec<(i64, String)>,
    /// The part that is sent next.
    from: usize,
    size: usize,
}

impl Batch<'_> {
    /// The broker has the part; who was refused before it is to blame.
    fn taken(&mut self, entries: &[String]) {
        let rows = self.events.iter().skip(self.from).take(self.size);
        for (place, event) in rows.enumerate() {
            let entry = entries.get(place).cloned().unwrap_or_default();
            self.sent.marks.published.push((event.id, entry));
        }
        self.sent.marks.refused.append(&mut self.suspects);
        self.sent.failure = None;
        self.from += self.size;
        self.size = self.events.len() - self.from;
    }

    /// The broker refuses the part, which is one event.
    fn refused(&mut self, error: Error) {
        let row = self.events.get(self.from).map(|event| event.id);
        let refused = row.map(|row| (row, chain(&error)));
        self.from += 1;
        self.size = self.events.len() - self.from;
        if matches!(error.kind(), ErrorKind::Encode | ErrorKind::Refused) {
            self.sent.marks.refused.extend(refused);
        } else {
            self.suspects.extend(refused);
            self.sent.failure = Some(error);
        }
        if !self.suspects.is_empty() {
            // One more, to see whether it takes any.
            self.size = self.size.min(1);
        }
    }
}
