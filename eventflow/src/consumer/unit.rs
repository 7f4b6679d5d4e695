//! A unit of work: one transaction with some events in it, their handlers' writes and their rows'
//! next states. All of it commits together, or nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    attempt::{Attempt, attempt},
    dispatcher::Call,
    engine::Engine,
    outcome,
};
use crate::{
    delivery::{Delivery, Reservation},
    error::{BoxError, chain},
    fail_point::{self, Point},
    handler::Failure,
    inbox::{Inbox, Lease, LossKind, Row, Settlement, Status, Unit, UnitLost},
};

/// How long a transaction stays open for further events.
const UNIT_TIME: Duration = Duration::from_secs(1);

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
    engine.hand_back(&[row]).await;
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
        let (delivery, reservation) =
            Delivery::reserved(row.envelope.clone(), engine.settings.handler_timeout);
        let call = if let Some(call) = engine.dispatcher.call_if_ready(delivery.clone()) {
            call
        } else {
            // Nothing waits for readiness while a transaction is open.
            self.commit().await;
            engine.call(delivery.clone()).await
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
        if !engine.held.contains(row.lease) {
            self.open = Some(open);
            return engine.note_lease_lost(row.lease);
        }
        self.attempt(open, row, (delivery, reservation), call).await;
    }

    async fn attempt(
        &mut self,
        open: Open<I>,
        row: Row,
        delivery: (Delivery<I>, Reservation<I::Unit>),
        call: Call,
    ) {
        let Open {
            unit,
            since,
            mut rows,
            mut settlements,
        } = open;
        let attempt = attempt(self.engine, unit, &row, delivery, call).await;
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
        self.engine.note_failure(&row, &failure, &settlement);
        self.apart.push(settlement);
    }

    fn hand_back(&mut self, row: Row, error: &BoxError) {
        self.engine.note_handed_back(&row, error);
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
        let mut rows = open.rows;
        let Err(Uncommitted { lost, overtaken }) =
            commit(self.engine, open.unit, &open.settlements).await
        else {
            return;
        };
        let (kind, error) = (lost.kind(), lost.into());
        if let Some(lease) = overtaken {
            rows.retain(|row| row.lease != lease);
        } else if rows.len() == 1
            && let Some(row) = rows.pop()
        {
            // What one event's writes make fail at the commit, as a deferred constraint does, is
            // its own failure; among several, each shows alone.
            return self.lose(kind, &error, None, row, true);
        }
        self.engine.note_unit_lost(kind, &error);
        self.again.append(&mut rows);
    }

    /// Commits, hands back what is to be handed back, and answers what is to run again.
    async fn finish(mut self) -> Vec<Row> {
        self.commit().await;
        self.engine.settle_apart(self.apart).await;
        self.engine.hand_back(&self.back).await;
        self.again
    }
}

/// A unit that was lost at its end.
struct Uncommitted {
    lost: UnitLost,
    /// The row that is another worker's by now.
    overtaken: Option<Lease>,
}

impl<E: Into<UnitLost>> From<E> for Uncommitted {
    fn from(lost: E) -> Self {
        Self {
            lost: lost.into(),
            overtaken: None,
        }
    }
}

/// Commits together: the handlers' writes, and their rows' next states.
async fn commit<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    settlements: &[Settlement],
) -> Result<(), Uncommitted>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    fail_point::reach(Point::BeforeSettle).await?;
    let settled = unit.settle(settlements).await?;
    let overtaken = settlements.iter().find(|settlement| {
        settlement.status == Status::Processed && !settled.contains(&settlement.lease)
    });
    if let Some(settlement) = overtaken {
        // Another owner exists: its run counts, so this one's writes must not be stored.
        engine.note_lease_lost(settlement.lease);
        return Err(Uncommitted {
            lost: UnitLost::lease_lost(),
            overtaken: Some(settlement.lease),
        });
    }
    fail_point::reach(Point::BeforeCommit).await?;
    unit.commit().await?;
    fail_point::reach(Point::AfterSettleCommit).await?;
    engine.note_settled(settlements, &settled);
    Ok(())
}
