//! A unit of work: one transaction with some events in it, their handlers' writes and their rows'
//! next states. All of it commits together, or nothing.

use std::{
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    attempt::{Attempt, attempt},
    calls::Watched,
    commit::{Uncommitted, commit},
    dispatcher::Call,
    engine::Engine,
    outcome::{self, Outcome},
};
use crate::{
    delivery::Delivery,
    error::{BoxError, chain},
    handler::Failure,
    inbox::{Inbox, LossKind, Row, Settlement, UnitLost},
    router::NotReady,
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
    /// Rows that ended without a unit, or whose unit was lost.
    apart: Vec<Settlement>,
    /// Handlers whose layers take no event for now.
    not_ready: Vec<&'static str>,
    /// The database did not open a unit: the remaining rows wait for it as well.
    down: bool,
}

struct Open<I: Inbox> {
    unit: I::Unit,
    gathered: Gathered,
}

/// What an open unit has in it.
struct Gathered {
    since: Instant,
    rows: Vec<Row>,
    settlements: Vec<Settlement>,
}

/// What running one row came to.
enum Ran<U> {
    Attempted(Attempt<U>, Gathered),
    /// It has ended without the transaction, after a wait.
    Ended(Settlement),
    /// Without a transaction: no layer took it.
    HandedBack(BoxError),
    /// Another worker has taken the row over.
    LeaseLost,
    NotOpened(UnitLost),
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
            not_ready: Vec::new(),
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
        let handler = engine
            .dispatcher
            .handler(&row.envelope.metadata().event_type);
        if self.not_ready.contains(&handler) {
            // It would keep those behind it waiting for as long as the one before.
            return self.hand_back(row, &"the layers of the handler are not ready".into());
        }
        match self.attempt(&row).await {
            Ran::Attempted(attempt, gathered) => self.note(attempt, gathered, row).await,
            Ran::Ended(settlement) => {
                engine.held.note_ended(row.lease);
                self.apart.push(settlement);
            }
            Ran::HandedBack(error) => {
                if NotReady::is_in(&error) {
                    self.not_ready.push(handler);
                }
                self.hand_back(row, &error);
            }
            Ran::LeaseLost => engine.note_lease_lost(row.lease),
            Ran::NotOpened(lost) => {
                self.down = true;
                self.again.push(row);
                engine.note_unit_lost(lost.kind(), &lost.into());
            }
        }
    }

    /// Calls the service, and once the call asks for the transaction, runs the rest of it in the
    /// unit.
    async fn attempt(&mut self, row: &Row) -> Ran<I::Unit> {
        let engine = self.engine;
        let (delivery, reservation) = engine.reserved_delivery(row);
        let watched = engine.watch(row);
        // Before the call: a timeout that a layer begins with it is not for the database to use up.
        match self.open().await {
            Ok(open) => self.open = Some(open),
            Err(lost) => return Ran::NotOpened(lost),
        }
        let call = match self.call(&watched, &delivery).await {
            Ok(call) => call,
            Err(error) => return Ran::HandedBack(error),
        };
        // It may have waited for long.
        if !engine.held.contains(row.lease) {
            return Ran::LeaseLost;
        }
        let mut call = pin!(engine.finish_call(row, &watched, &delivery, call));
        let ended = match self.until_wanted(call.as_mut(), &delivery).await {
            // There is no unit to lose yet.
            Some(Outcome::HandedBack(error) | Outcome::Lost(_, error)) => {
                return Ran::HandedBack(error);
            }
            Some(outcome) if self.open.is_none() => {
                return match engine.settlement(row, outcome) {
                    Ok(settlement) => Ran::Ended(settlement),
                    Err(error) => Ran::HandedBack(error),
                };
            }
            ended => ended,
        };
        let Open { unit, gathered } = match self.open().await {
            Ok(open) => open,
            Err(lost) => return Ran::NotOpened(lost),
        };
        if !engine.held.contains(row.lease) {
            self.open = Some(Open { unit, gathered });
            return Ran::LeaseLost;
        }
        let rest = async {
            match ended {
                // A task of the service's own may want the transaction all the same.
                Some(outcome) => outcome,
                None => call.await,
            }
        };
        let attempt = attempt(engine, unit, row, (&delivery, reservation), rest).await;
        Ran::Attempted(attempt, gathered)
    }

    /// Asks the service for the call, which then has not begun to run.
    async fn call(
        &mut self,
        watched: &Watched<'_>,
        delivery: &Delivery<I>,
    ) -> Result<Call, BoxError> {
        let dispatcher = &self.engine.dispatcher;
        if let Some(call) = watched.ask(|| dispatcher.call_if_ready(delivery.clone())) {
            return call;
        }
        // Nothing waits for readiness while a transaction is open.
        self.commit().await;
        self.engine.call(watched, delivery.clone()).await
    }

    /// Lets a call go on until it asks for the transaction, or has ended without. A layer that makes
    /// it wait does so while no transaction is open.
    async fn until_wanted(
        &mut self,
        mut call: Pin<&mut (impl Future<Output = Outcome> + Send)>,
        delivery: &Delivery<I>,
    ) -> Option<Outcome> {
        let wanted = async {
            tokio::select! {
                biased;
                outcome = call.as_mut() => Some(outcome),
                () = delivery.slot().wanted() => None,
            }
        };
        let mut wanted = pin!(wanted);
        if let Poll::Ready(ended) = futures_util::poll!(wanted.as_mut()) {
            return ended;
        }
        self.commit().await;
        wanted.await
    }

    /// Notes what an attempt came to.
    async fn note(&mut self, attempt: Attempt<I::Unit>, mut gathered: Gathered, row: Row) {
        let unit = match attempt {
            Attempt::Settled(unit, settlement) => {
                self.engine.held.note_ended(row.lease);
                gathered.settlements.push(settlement);
                gathered.rows.push(row);
                unit
            }
            Attempt::HandedBack(unit, error) => {
                self.hand_back(row, &error);
                unit
            }
            Attempt::Lost(kind, error, failure) => {
                let alone = gathered.rows.is_empty();
                self.again.append(&mut gathered.rows);
                self.lose(kind, &error, failure, row, alone);
                return;
            }
        };
        let since = gathered.since;
        self.open = Some(Open { unit, gathered });
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

    /// The open unit, or a new one.
    async fn open(&mut self) -> Result<Open<I>, UnitLost> {
        match self.open.take() {
            Some(open) => Ok(open),
            None => Ok(Open {
                unit: self.engine.inbox.begin().await?,
                gathered: Gathered {
                    since: Instant::now(),
                    rows: Vec::new(),
                    settlements: Vec::new(),
                },
            }),
        }
    }

    /// Settles and commits what is open.
    async fn commit(&mut self) {
        let Some(Open { unit, gathered }) = self.open.take() else {
            return;
        };
        let mut rows = gathered.rows;
        let Err(Uncommitted { lost, overtaken }) =
            commit(self.engine, unit, &gathered.settlements).await
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
