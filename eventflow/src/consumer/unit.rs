//! A unit of work: one transaction with some events in it, their handlers' writes and their rows'
//! next states. All of it commits together, or nothing.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    dispatcher::Call,
    engine::{Engine, HAND_BACK_DELAY},
    outcome::{self, Outcome},
};
use crate::{
    delivery::{Delivery, Writes},
    error::{BoxError, chain},
    handler::Failure,
    inbox::{Inbox, LossKind, Row, Settlement, Status, Unit, UnitLost},
    layer::timeout::TimedOut,
    router::Route,
};

/// How long a transaction stays open for further events.
const UNIT_TIME: Duration = Duration::from_secs(1);

/// How long a layer that runs its inner service in a task of its own may keep the transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the same event runs again for a conflict or an outage before it is handed back.
const RERUNS: u32 = 5;

/// Runs events with a transaction: as many as fit share one.
pub(super) struct UnitOfWork<'e, Src, I: Inbox> {
    engine: &'e Engine<Src, I>,
    open: Option<Open<I>>,
    /// Rows of lost units, to run again one at a time.
    again: Vec<Row>,
    /// Rows to hand back.
    back: Vec<Row>,
    /// Failed rows whose unit was lost with them.
    apart: Vec<Settlement>,
    /// The database did not open a unit: the remaining rows wait for it as well.
    down: bool,
}

struct Open<I: Inbox> {
    unit: I::Unit,
    since: Instant,
    rows: Vec<Row>,
    settlements: Vec<Settlement>,
}

/// What one attempt in an open unit came to.
enum Attempt<U> {
    /// The unit goes on with the row's next state in it.
    Settled(U, Settlement),
    /// The unit goes on without the row.
    HandedBack(U, BoxError),
    /// The unit is lost; the row's own failure is known if it had one before.
    Lost(LossKind, BoxError, Option<Failure>),
}

/// Runs rows whose handlers take the transaction.
pub(super) async fn run_in_units<Src, I>(engine: &Engine<Src, I>, rows: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut work = UnitOfWork::new(engine);
    for row in rows {
        work.run(row).await;
    }
    let again = work.finish().await;
    if !again.is_empty() {
        for row in engine.still_held(again).await {
            run_alone(engine, row).await;
        }
    }
}

/// Runs one row in a unit of its own: a loss is its own doing, a conflict, or an outage.
pub(super) async fn run_alone<Src, I>(engine: &Engine<Src, I>, row: Row)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut row = row;
    for _ in 0..RERUNS {
        let mut work = UnitOfWork::new(engine);
        work.run(row).await;
        let mut again = work.finish().await;
        let Some(lost) = again.pop() else {
            return;
        };
        let pause = Duration::from_millis(fastrand::u64(5..50));
        tokio::time::sleep(pause).await;
        let Some(held) = engine.still_held(vec![lost]).await.pop() else {
            return;
        };
        row = held;
    }
    engine.hand_back(&[row], HAND_BACK_DELAY).await;
}

impl<'e, Src, I> UnitOfWork<'e, Src, I>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    fn new(engine: &'e Engine<Src, I>) -> Self {
        Self {
            engine,
            open: None,
            again: Vec::new(),
            back: Vec::new(),
            apart: Vec::new(),
            down: false,
        }
    }

    /// Runs one row, in the open unit or a new one.
    async fn run(&mut self, row: Row) {
        let engine = self.engine;
        if engine.stopping.is_cancelled() {
            self.back.push(row);
            return;
        }
        if self.down {
            self.again.push(row);
            return;
        }
        let delivery = Delivery::new(row.envelope.clone(), engine.settings.handler_timeout);
        let call = match engine.dispatcher.call_if_ready(delivery.clone()) {
            Some(call) => call,
            None => {
                // Nothing waits for readiness while a transaction is open.
                self.commit().await;
                engine.dispatcher.call(delivery.clone()).await
            }
        };
        let call = match call {
            Ok(call) => call,
            Err(error) => return self.hand_back(row, &error),
        };
        let open = match self.open().await {
            Ok(open) => open,
            Err(lost) => {
                self.down = true;
                self.again.push(row);
                return engine.note_unit_lost(lost.kind(), &lost.into());
            }
        };
        if !engine.held.start(row.lease, engine.deadline(&row)) {
            self.open = Some(open);
            return engine.note_lease_lost(row.lease);
        }
        self.attempt(open, row, &delivery, call).await;
    }

    async fn attempt(&mut self, open: Open<I>, row: Row, delivery: &Delivery<I>, call: Call) {
        let Open {
            unit,
            since,
            mut rows,
            mut settlements,
        } = open;
        let attempt = attempt(self.engine, unit, &row, delivery, call).await;
        self.engine.held.end(row.lease);
        let unit = match attempt {
            Attempt::Settled(unit, settlement) => {
                settlements.push(settlement);
                rows.push(row);
                unit
            }
            Attempt::HandedBack(unit, error) => {
                self.hand_back(row, &error);
                unit
            }
            Attempt::Lost(kind, error, failure) => {
                let alone = rows.is_empty();
                self.again.append(&mut rows);
                self.lose(kind, &error, failure, row, alone);
                return;
            }
        };
        self.open = Some(Open {
            unit,
            since,
            rows,
            settlements,
        });
        if since.elapsed() >= UNIT_TIME {
            self.commit().await;
        }
    }

    /// Decides what becomes of the row with which a unit was lost.
    fn lose(
        &mut self,
        kind: LossKind,
        error: &BoxError,
        failure: Option<Failure>,
        row: Row,
        alone: bool,
    ) {
        self.engine.note_unit_lost(kind, error);
        let failure = match (failure, kind) {
            (Some(failure), LossKind::Handler) => failure,
            (None, LossKind::Handler) if alone => Failure::retry(chain(error.as_ref())),
            // Whatever the handler said, the database failed under it.
            (_, _) => return self.again.push(row),
        };
        let settlement = outcome::failed(&row, &failure, &self.engine.settings);
        note_failure(&row, &settlement);
        self.apart.push(settlement);
    }

    fn hand_back(&mut self, row: Row, error: &BoxError) {
        let metadata = row.envelope.metadata();
        tracing::warn!(
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            error = chain(error.as_ref()),
            "event handed back with no attempt counted"
        );
        self.back.push(row);
    }

    async fn open(&mut self) -> Result<Open<I>, UnitLost> {
        match self.open.take() {
            Some(open) => Ok(open),
            None => Ok(Open {
                unit: self.engine.inbox.begin().await?,
                since: Instant::now(),
                rows: Vec::new(),
                settlements: Vec::new(),
            }),
        }
    }

    /// Settles and commits what is open.
    async fn commit(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let rows = open.rows;
        if let Err(lost) = commit(self.engine, open.unit, &open.settlements).await {
            self.again.extend(rows);
            self.engine.note_unit_lost(lost.kind(), &lost.into());
        }
    }

    /// Commits, hands back what is to be handed back, and answers what is to run again.
    async fn finish(mut self) -> Vec<Row> {
        self.commit().await;
        self.engine.settle_apart(self.apart).await;
        let delay = if self.engine.stopping.is_cancelled() {
            Duration::ZERO
        } else {
            HAND_BACK_DELAY
        };
        self.engine.hand_back(&self.back, delay).await;
        self.again
    }
}

/// Commits together: the handlers' writes, and their rows' next states.
async fn commit<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    settlements: &[Settlement],
) -> Result<(), UnitLost>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let settled = unit.settle(settlements).await?;
    let overtaken = settlements.iter().find(|settlement| {
        settlement.status == Status::Processed && !settled.contains(&settlement.lease)
    });
    if let Some(settlement) = overtaken {
        // Another owner exists: its run counts, so this one's writes must not be stored.
        engine.note_lease_lost(settlement.lease);
        return Err(UnitLost::lease_lost());
    }
    unit.commit().await?;
    engine.note_settled(settlements, &settled);
    Ok(())
}

/// Runs one call between a savepoint and its release.
async fn attempt<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    row: &Row,
    delivery: &Delivery<I>,
    call: Call,
) -> Attempt<I::Unit>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if let Err(lost) = unit.savepoint().await {
        return Attempt::Lost(lost.kind(), lost.into(), None);
    }
    delivery.slot().fill(unit).await;
    let mut outcome = engine.finish_call(row, call).await;
    let (mut unit, writes) = match delivery.slot().empty(PATIENCE).await {
        Ok(taken) => taken,
        Err(lost) => return Attempt::Lost(lost.kind(), lost.into(), outcome.into_failure()),
    };
    if matches!(outcome, Outcome::Processed) && writes == Writes::Unfinished {
        outcome = Outcome::Failed(Failure::retry(
            "the service answered `Ok` for a call that did not finish; a layer that swallows timeouts must not, and a service of one's own calls `Transaction::keep`",
        ));
    }
    if let Outcome::Lost(kind, error) = outcome {
        return Attempt::Lost(kind, error, None);
    }
    let keep = matches!(outcome, Outcome::Processed) && writes != Writes::Failed;
    match close(&mut unit, keep, writes).await {
        Ok(true) => {}
        Ok(false) => {
            outcome = Outcome::Failed(Failure::retry(
                "the handler answered `Ok` after an SQL error that aborted its transaction; answer the error instead",
            ));
        }
        Err(lost) => return Attempt::Lost(lost.kind(), lost.into(), outcome.into_failure()),
    }
    settled(engine, unit, row, outcome)
}

/// Keeps or takes back the attempt's writes; `false` if they could not be kept.
async fn close<U: Unit>(unit: &mut U, keep: bool, writes: Writes) -> Result<bool, UnitLost> {
    if keep {
        return unit.release().await;
    }
    unit.rollback(writes == Writes::Unfinished).await?;
    unit.release().await
}

fn settled<Src, I>(
    engine: &Engine<Src, I>,
    unit: I::Unit,
    row: &Row,
    outcome: Outcome,
) -> Attempt<I::Unit>
where
    I: Inbox,
{
    match outcome {
        Outcome::Processed => Attempt::Settled(unit, outcome::processed(row)),
        Outcome::Failed(failure) => {
            let settlement = outcome::failed(row, &failure, &engine.settings);
            note_failure(row, &settlement);
            Attempt::Settled(unit, settlement)
        }
        Outcome::HandedBack(error) => Attempt::HandedBack(unit, error),
        Outcome::Lost(kind, error) => Attempt::Lost(kind, error, None),
    }
}

/// Logs a failed run.
pub(super) fn note_failure(row: &Row, settlement: &Settlement) {
    let metadata = row.envelope.metadata();
    tracing::warn!(
        event_id = metadata.event_id,
        event_type = metadata.event_type,
        attempt = metadata.attempt,
        outcome = settlement.status.as_str(),
        delay_s = settlement.delay.as_secs_f64(),
        error = settlement.error_message.as_deref(),
        "run failed"
    );
}

impl<Src, I: Inbox> Engine<Src, I> {
    pub(super) fn deadline(&self, row: &Row) -> Duration {
        self.dispatcher
            .deadline(&row.envelope.metadata().event_type)
    }

    /// Waits for a call's answer, its deadline, or the end of the grace period.
    pub(super) async fn finish_call(&self, row: &Row, call: Call) -> Outcome {
        let metadata = row.envelope.metadata();
        let handler = match self.dispatcher.routes().route(&metadata.event_type) {
            Route::Handler(route) => route.name,
            Route::Ignored | Route::Unknown => "",
        };
        let span = tracing::debug_span!(
            "attempt",
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            handler,
            attempt = metadata.attempt,
        );
        let deadline = self.deadline(row);
        let answer = async {
            tokio::select! {
                answer = tokio::time::timeout(deadline, call) => match answer {
                    Ok(answer) => Outcome::of(answer),
                    Err(_) => Outcome::Failed(Failure::retry(TimedOut::new(deadline))),
                },
                () = self.cut.cancelled() => {
                    Outcome::HandedBack("the consumer stopped before the handler was done".into())
                }
            }
        };
        let outcome = answer.instrument(span.clone()).await;
        span.in_scope(|| tracing::debug!(outcome = outcome.as_str(), "attempt ended"));
        outcome
    }
}
