//! One attempt at one event inside an open unit: a call between a savepoint and its release.

use std::time::Duration;

use tracing::Instrument;

use super::{
    calls::Watched,
    dispatcher::Call,
    engine::Engine,
    outcome::{self, Outcome},
};
use crate::{
    delivery::{Delivery, Reservation, Taken, Writes},
    envelope::{DecodeError, Metadata},
    error::{BoxError, chain},
    fail_point::{self, Point},
    handler::Failure,
    inbox::{Inbox, LossKind, OrderPolicy, Row, Settlement, Status, Unit, UnitLost},
    layer::timeout::TimedOut,
    outbox::{Outbox, Outgoing},
};

/// How long a layer that runs its inner service in a task of its own may keep the transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one attempt in an open unit came to.
pub(super) enum Attempt<U> {
    /// The unit goes on with the row's next state in it, and what its handler has published.
    Settled(U, Settlement, Vec<Outgoing>),
    /// The unit goes on without the row.
    HandedBack(U, BoxError),
    /// The unit goes on, without anything that was done since the savepoint that the attempt shared.
    Undone(U),
    /// The unit is lost; the row's own failure is known if it had one before.
    Lost(LossKind, BoxError, Option<Failure>),
}

/// What an attempt's writes are taken back to when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Savepoint {
    /// One of its own, released after it.
    Own,
    /// One that it sets and leaves to those after it.
    First,
    /// One that an attempt before it has set.
    Shared,
}

/// Runs one call, or the rest of it, after a savepoint.
pub(super) async fn attempt<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    row: &Row,
    savepoint: Savepoint,
    (delivery, reservation): (&Delivery<I>, Reservation<I::Unit>),
    call: impl Future<Output = Outcome>,
) -> Attempt<I::Unit>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if savepoint != Savepoint::Shared
        && let Err(lost) = unit.savepoint().await
    {
        return Attempt::Lost(lost.kind(), lost.into(), None);
    }
    let is_shared = savepoint != Savepoint::Own;
    reservation.fill(unit, is_shared, delivery.outbox());
    let outcome = call.await;
    if let Err(error) = fail_point::reach(Point::InHandler).await {
        return Attempt::Lost(LossKind::Infrastructure, error.into(), None);
    }
    let Taken {
        mut unit,
        writes,
        outbox,
    } = match delivery.slot().empty(PATIENCE).await {
        Ok(taken) => taken,
        Err(lost) => return Attempt::Lost(lost.kind(), lost.into(), outcome.into_failure()),
    };
    if let Outcome::Lost(kind, error) = outcome {
        return Attempt::Lost(kind, error, None);
    }
    let (mut outcome, mut outgoing) = judged(outcome, writes, outbox);
    let keep = matches!(outcome, Outcome::Processed) && writes != Writes::Failed;
    let closed = if is_shared && keep {
        // A transaction that the handler has ended is not for the next one to find out.
        unit.check().map(|()| true)
    } else if is_shared && writes == Writes::None {
        Ok(true)
    } else {
        close(&mut unit, keep, writes).await
    };
    match closed {
        Ok(_) if is_shared && !keep && writes != Writes::None => return Attempt::Undone(unit),
        Ok(true) => {}
        Ok(false) => {
            outcome = Outcome::Failed(Failure::retry(
                "the handler answered `Ok` after an SQL error that aborted its transaction; answer the error instead",
            ));
            outgoing.clear();
        }
        Err(lost) => {
            // What is not the handler's doing may still have ended the transaction under it, as a
            // full disk does, or a write that is interrupted when the consumer stops.
            let kind = match outcome {
                Outcome::HandedBack(_) => LossKind::Infrastructure,
                _ => lost.kind(),
            };
            return Attempt::Lost(kind, lost.into(), outcome.into_failure());
        }
    }
    match engine.settlement(row, outcome) {
        Ok(settlement) => Attempt::Settled(unit, settlement, outgoing),
        Err(error) => Attempt::HandedBack(unit, error),
    }
}

/// What an answer is worth, and what is to be published with it. A call that has not finished, or that has
/// gone on after an event which could not be published, has failed.
fn judged(outcome: Outcome, writes: Writes, outbox: Outbox) -> (Outcome, Vec<Outgoing>) {
    if !matches!(outcome, Outcome::Processed) || writes == Writes::Failed {
        return (outcome, Vec::new());
    }
    let failure = match outbox.take() {
        _ if writes == Writes::Unfinished => Failure::retry(
            "the service answered `Ok` for a call that did not finish; a layer that swallows timeouts must not, and a service of one's own calls `Transaction::keep`",
        ),
        Ok(outgoing) => return (outcome, outgoing),
        Err(refused) => Failure::dead_letter(format!(
            "the handler answered `Ok` after an event that was not published; answer the error instead: {refused}"
        )),
    };
    (Outcome::Failed(failure), Vec::new())
}

/// Keeps or takes back the writes since the savepoint; `false` if they could not be kept.
async fn close<U: Unit>(unit: &mut U, keep: bool, writes: Writes) -> Result<bool, UnitLost> {
    if keep {
        return unit.release().await;
    }
    unit.rollback(writes == Writes::Unfinished).await?;
    unit.release().await
}

/// Why a run failed, for logs: what tells of JSON may quote the payload, its keys or its values, so
/// only the row has that.
fn reason(failure: &Failure) -> String {
    if failure.find::<DecodeError>().is_some() || failure.find::<serde_json::Error>().is_some() {
        return "JSON could not be read; the row's `error_message` says where".to_owned();
    }
    outcome::message(&chain(failure.error()))
}

impl<Src, I: Inbox> Engine<Src, I> {
    /// Keeps an eye on a row's call from now on.
    pub(super) fn watch(&self, row: &Row) -> Watched<'_> {
        let limit = self.dispatcher.limit(&row.envelope.metadata().event_type);
        self.vitals.calls.watch(row, limit)
    }

    /// Waits for a call's answer, its deadline, or the end of the grace period.
    pub(super) async fn finish_call(
        &self,
        row: &Row,
        watched: &Watched<'_>,
        delivery: &Delivery<I>,
        call: Call,
    ) -> Outcome {
        let metadata = row.envelope.metadata();
        let handler = self.dispatcher.handler(&metadata.event_type);
        let span = tracing::debug_span!(
            "attempt",
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            handler,
            attempt = metadata.attempt,
        );
        let deadline = self.dispatcher.deadline(&metadata.event_type);
        let answer = async {
            tokio::select! {
                // First the call: one that answers at once starts no timer.
                biased;
                answer = call => Outcome::of(answer),
                () = delivery.slot().has_been_lent_for(deadline) => {
                    Outcome::Failed(Failure::retry(TimedOut::new(deadline)))
                }
                () = self.cut.cancelled() => {
                    Outcome::HandedBack("the consumer stopped before the handler was done".into())
                }
            }
        };
        let answer = async {
            match answer.await {
                // By a layer's timeout, say, whose time goes on while the call waits.
                Outcome::Failed(failure) if delivery.was_cut_while_waiting() => {
                    Outcome::HandedBack(failure.into())
                }
                outcome => outcome,
            }
        };
        let outcome = watched.run(answer).instrument(span.clone()).await;
        span.in_scope(|| tracing::debug!(outcome = outcome.as_str(), "attempt ended"));
        outcome
    }

    /// The next state of a row whose unit is not lost, if it had one, or why it is handed back.
    pub(super) fn settlement(&self, row: &Row, outcome: Outcome) -> Result<Settlement, BoxError> {
        match outcome {
            Outcome::Processed => Ok(outcome::processed(row)),
            Outcome::Failed(failure) => {
                let settlement = outcome::failed(row, &failure, &self.settings);
                self.note_failure(row, &failure, &settlement);
                Ok(settlement)
            }
            // With no unit to lose: a conflict in the handler's own transaction passes.
            Outcome::HandedBack(error) | Outcome::Lost(_, error) => Err(error),
        }
    }

    /// Logs a failed run.
    pub(super) fn note_failure(&self, row: &Row, failure: &Failure, settlement: &Settlement) {
        let metadata = row.envelope.metadata();
        tracing::warn!(
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            handler = self.dispatcher.handler(&metadata.event_type),
            attempt = metadata.attempt,
            outcome = settlement.status.as_str(),
            delay_s = settlement.delay.as_secs_f64(),
            error = reason(failure),
            "run failed"
        );
        if settlement.status == Status::DeadLetter {
            self.note_held_up(metadata);
        }
    }

    /// Logs that an event which is a dead letter holds the later ones of its aggregate up, if it does.
    pub(super) fn note_held_up(&self, metadata: &Metadata) {
        if matches!(self.settings.order, None | Some(OrderPolicy::Skip)) {
            return;
        }
        tracing::warn!(
            aggregate_id = %metadata.aggregate_id,
            event_id = metadata.event_id,
            policy = ?self.settings.order,
            "a dead letter holds up the later events of its aggregate until it is requeued or discarded"
        );
    }
}
