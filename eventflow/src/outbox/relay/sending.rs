//! Publishes one batch, and finds the events in it that the broker does not take.

use std::time::Duration;

use super::{
    Engine,
    doubts::{self, Doubts},
};
use crate::{
    envelope::Envelope,
    error::{Error, ErrorKind, chain},
    fail_point::{self, Point},
    outbox::{Marks, Pending},
    stream::Sink,
};

/// After so many failures in a row, the rest of the batch is not tried before a pause.
const FAILURES: usize = 3;

/// How long a sink may take for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// What the broker has answered for.
    pub(super) marks: Marks,
    /// Why the rest is to be sent again.
    pub(super) failure: Option<Error>,
}

/// Publishes events in their order; a careful one begins with a single event.
///
/// A part that is refused is halved until the event is found that is refused. It is a dead letter if the
/// error says that it is about the event. Any other error may be about the key, the user or the server: the
/// event waits, with all of its aggregate, and others go on.
///
/// An error that passes ends the batch, so that a broker that is away is not asked for every half. The
/// next batch is careful: a single event that fails waits as above.
pub(super) async fn send<T, K: Sink>(
    engine: &Engine<T, K>,
    events: &[Pending],
    is_careful: bool,
    doubts: &mut Doubts,
) -> Sent {
    let mut sent = Sent::default();
    let mut left: Vec<&Pending> = events.iter().collect();
    let mut size = if is_careful { 1 } else { left.len() };
    let mut failures = 0;
    while failures < FAILURES
        && let Some((part, rest)) = left.split_at_checked(size)
        && let Some(first) = part.first()
    {
        match send_part(engine, part).await {
            Ok(entries) => {
                engine.vitals.note_published();
                engine.counters.published.add_len(part.len());
                let rows = part.iter().map(|event| event.id);
                sent.marks.published.extend(rows.zip(entries));
                sent.marks.refused.extend(doubts.taken(part));
                left = rest.to_vec();
                size *= 2;
                failures = 0;
            }
            Err(error) if part.len() > 1 => {
                doubts.failed_together();
                if error.is_transient() {
                    sent.failure = Some(error);
                    break;
                }
                size = part.len().div_ceil(2);
            }
            Err(error) if is_about_the_event(&error) => {
                sent.marks.refused.push((first.id, chain(&error)));
                left = rest.to_vec();
            }
            Err(error) => {
                doubts.failed(first, &error);
                let aggregate = doubts::aggregate(first);
                left.retain(|event| doubts::aggregate(event) != aggregate);
                sent.failure = Some(error);
                failures += 1;
            }
        }
        size = size.min(left.len());
    }
    sent
}

/// No other error makes a dead letter at once.
fn is_about_the_event(error: &Error) -> bool {
    !error.is_transient() && matches!(error.kind(), ErrorKind::Encode | ErrorKind::Refused)
}

/// Publishes a part of a batch; answers the ids of its entries.
async fn send_part<T, K: Sink>(
    engine: &Engine<T, K>,
    part: &[&Pending],
) -> Result<Vec<String>, Error> {
    fail_point::reach(Point::BeforeSend).await?;
    let envelopes: Vec<Envelope> = part.iter().map(|event| event.envelope.clone()).collect();
    let answer = in_time(engine.sink.send(&envelopes));
    let entries = engine.vitals.broker.ask(answer).await?;
    fail_point::reach(Point::AfterSend).await?;
    let mut ids: Vec<String> = entries.into_iter().map(|entry| entry.id).collect();
    // A sink of the user's that names fewer has published all the same.
    ids.resize(part.len(), String::new());
    Ok(ids)
}

/// Gives up a sink that does not answer: the lease is extended meanwhile, so no other relay would take over.
async fn in_time<R>(answer: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
    let answer = tokio::time::timeout(LIMIT, answer).await;
    answer.unwrap_or_else(|_| {
        let message =
            format!("the sink has not answered within {LIMIT:?}; the events are sent again");
        Err(Error::new(ErrorKind::Stream, message).transient(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_never_answers_is_given_up() {
        let error = in_time(std::future::pending::<Result<(), Error>>()).await;

        assert!(error.unwrap_err().is_transient());
    }
}
