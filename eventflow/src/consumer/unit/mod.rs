//! A unit of work: one transaction with some events in it, their handlers' writes and their rows'
//! next states. All of it commits together, or nothing.
//!
//! `running` makes units of rows; here stands how one takes its rows, `gathered` is what it has of
//! them, `newborn` what it has inserted, `commit` its end, and `losses` what becomes of its rows when
//! they, or all of it, are taken back.

mod commit;
mod gathered;
mod losses;
mod newborn;
mod running;

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::task::coop::unconstrained;

use self::{
    commit::{Ending, commit, commit_newborn},
    gathered::{Gathered, Open},
};
pub(super) use self::{
    newborn::Newborn,
    running::{is_replay_safe, run_again, run_in_units},
};
use super::{
    attempt::{Attempt, Savepoint, attempt},
    calls::Watched,
    dispatcher::Call,
    engine::Engine,
    outcome::Outcome,
};
use crate::{
    delivery::Delivery,
    error::BoxError,
    inbox::{Inbox, Row, Settlement, Unit, UnitLost},
    router::NotReady,
};

/// How long a transaction stays open for further events.
pub(super) const UNIT_TIME: Duration = Duration::from_secs(1);

/// Runs events with a transaction: as many as fit share one.
pub(super) struct UnitOfWork<'e, Src, I: Inbox> {
    engine: &'e Engine<Src, I>,
    open: Option<Open<I>>,
    /// Rows that the open unit has inserted.
    newborn: Option<Newborn>,
    /// Such rows were lost with their unit: nothing of this work's rows is there any more.
    has_lost_newborn: bool,
    /// Events share one savepoint.
    optimistic: bool,
    /// Rows whose writes were taken back with another's: they run next, with savepoints.
    undone: VecDeque<Row>,
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

impl<'e, Src, I> UnitOfWork<'e, Src, I>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    fn new(engine: &'e Engine<Src, I>, optimistic: bool) -> Self {
        Self {
            engine,
            open: None,
            newborn: None,
            has_lost_newborn: false,
            optimistic,
            undone: VecDeque::new(),
            again: Vec::new(),
            back: Vec::new(),
            apart: Vec::new(),
            not_ready: Vec::new(),
            down: false,
        }
    }

    /// Begins with a unit that has inserted rows.
    pub(super) fn with_newborn(
        engine: &'e Engine<Src, I>,
        unit: I::Unit,
        newborn: Newborn,
        optimistic: bool,
    ) -> Self {
        let gathered = Gathered::new();
        Self {
            open: Some(Open { unit, gathered }),
            newborn: Some(newborn),
            ..Self::new(engine, optimistic)
        }
    }

    /// Whether rows were lost that the unit had inserted.
    pub(super) fn has_lost_newborn(&self) -> bool {
        self.has_lost_newborn
    }

    /// Runs one row, in the open unit or a new one, and those whose writes it has cost.
    pub(super) async fn run(&mut self, row: Row) {
        self.run_one(row).await;
        self.run_undone().await;
    }

    async fn run_undone(&mut self) {
        while let Some(row) = self.undone.pop_front() {
            self.run_one(row).await;
        }
    }

    /// Notes a call that has ended without the transaction.
    pub(super) fn note_call(&mut self, row: Row, outcome: Outcome) {
        let engine = self.engine;
        match (engine.settlement(&row, outcome), &mut self.open) {
            (Ok(settlement), Some(Open { gathered, .. })) => {
                engine.held.note_ended(row.lease);
                gathered.settlements.push(settlement);
                gathered.rows.push(row);
            }
            (Ok(settlement), None) => self.apart.push(settlement),
            (Err(error), _) => self.hand_back(row, &error),
        }
    }

    async fn run_one(&mut self, row: Row) {
        let engine = self.engine;
        if self.has_lost_newborn {
            return;
        }
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
        let ran = self.attempt(&row).await;
        if self.has_lost_newborn {
            // A commit on the way has lost it, and with it the row.
            return;
        }
        match ran {
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
        let Open { unit, mut gathered } = match self.open().await {
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
        let savepoint = match gathered.shared_from {
            _ if !self.optimistic => Savepoint::Own,
            Some(_) => Savepoint::Shared,
            None => Savepoint::First,
        };
        if savepoint == Savepoint::First {
            gathered.share_from_here();
        }
        let lent = (&delivery, reservation);
        let attempt = attempt(engine, unit, row, savepoint, lent, rest).await;
        Ran::Attempted(attempt, gathered)
    }

    /// Asks the service for the call, which then has not begun to run.
    async fn call(
        &mut self,
        watched: &Watched<'_>,
        delivery: &Delivery<I>,
    ) -> Result<Call, BoxError> {
        let dispatcher = &self.engine.dispatcher;
        let calling = dispatcher.call_if_ready(delivery.clone());
        if let Some(call) = watched.wait_for(calling).await {
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
        // That the task has used up its turn is no reason to commit.
        if let Poll::Ready(ended) = futures_util::poll!(unconstrained(wanted.as_mut())) {
            return ended;
        }
        self.commit().await;
        wanted.await
    }

    /// Notes what an attempt came to.
    async fn note(&mut self, attempt: Attempt<I::Unit>, mut gathered: Gathered, row: Row) {
        let unit = match attempt {
            Attempt::Settled(unit, settlement, mut outgoing) => {
                self.engine.held.note_ended(row.lease);
                gathered.outgoing.append(&mut outgoing);
                gathered.settlements.push(settlement);
                gathered.rows.push(row);
                unit
            }
            Attempt::HandedBack(unit, error) => {
                self.hand_back(row, &error);
                unit
            }
            Attempt::Undone(unit) => {
                let mut undone = gathered.take_shared();
                undone.push(row);
                self.note_undone(undone);
                unit
            }
            Attempt::Lost(kind, error, failure) => {
                let alone = gathered.rows.is_empty();
                if self.lose_newborn(kind, &error) {
                    return;
                }
                // Where rows share a savepoint, another one's handler may be to blame.
                let own = failure.filter(|_| alone || gathered.shared_from.is_none());
                self.again.append(&mut gathered.rows);
                self.lose(kind, &error, own, row, alone);
                return;
            }
        };
        let since = gathered.since;
        self.open = Some(Open { unit, gathered });
        if since.elapsed() >= UNIT_TIME {
            self.commit().await;
        }
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
                gathered: Gathered::new(),
            }),
        }
    }

    /// Settles and commits what is open.
    pub(super) async fn commit(&mut self) {
        let Some(Open { unit, mut gathered }) = self.open.take() else {
            return;
        };
        let unit = match self.release_shared(unit, &mut gathered).await {
            Ok(unit) => unit,
            Err(lost) => return self.lose_at_commit(lost.into(), gathered.rows),
        };
        let Gathered {
            rows,
            settlements,
            outgoing,
            ..
        } = gathered;
        let ending = Ending {
            settlements: &settlements,
            outgoing: &outgoing,
        };
        let committed = match self.newborn.take() {
            Some(newborn) => {
                let committed = commit_newborn(self.engine, unit, ending, newborn).await;
                if let Err(lost) = committed {
                    self.note_newborn_lost(lost.kind(), &lost.into());
                }
                return;
            }
            None => commit(self.engine, unit, ending).await,
        };
        if let Err(uncommitted) = committed {
            self.lose_at_commit(uncommitted, rows);
        }
    }

    /// Keeps the writes of events that share a savepoint, unless one of them has swallowed an error.
    async fn release_shared(
        &mut self,
        mut unit: I::Unit,
        gathered: &mut Gathered,
    ) -> Result<I::Unit, UnitLost> {
        if gathered.shared_from.is_none() {
            return Ok(unit);
        }
        if unit.release().await? {
            gathered.shared_from = None;
            self.engine.optimism.note_success();
        } else {
            // It was rolled back to, and is still set.
            let undone = gathered.take_shared();
            self.note_undone(undone);
        }
        Ok(unit)
    }

    /// Commits, hands back what is to be handed back, and answers what is to run again: the rows of lost
    /// units.
    pub(super) async fn finish(mut self) -> Vec<Row> {
        self.commit().await;
        // The commit of events that share a savepoint may have taken them back.
        self.run_undone().await;
        self.commit().await;
        self.engine.settle_apart(self.apart).await;
        self.engine.hand_back(&self.back).await;
        self.again
    }
}
