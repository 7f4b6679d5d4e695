//! The rows as a plain model has them.

use eventflow::{inbox::OrderPolicy, prelude::*};
use proptest::prelude::*;

use super::{property::Checked, steps::Kind};

/// What a row of the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waits,
    Due,
    Failed,
    Left,
    Runs(i64),
    Done,
    /// It holds up those behind it.
    Holds,
    /// It does not.
    Passed,
    Parked,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) event_id: String,
    pub(super) aggregate: usize,
    /// A run of it has failed.
    pub(super) has_failed: bool,
    pub(super) state: State,
}

impl Row {
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(
            self.state,
            State::Done | State::Holds | State::Passed | State::Parked
        )
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, State::Holds | State::Passed | State::Parked)
    }

    pub(super) fn observed(&self) -> (String, bool) {
        let status = match self.state {
            State::Waits | State::Due | State::Left => "pending",
            State::Failed => "failed",
            State::Runs(_) => "processing",
            State::Done => "processed",
            State::Holds | State::Passed | State::Parked => "dead_letter",
        };
        let waits = matches!(self.state, State::Waits | State::Parked);
        (status.to_owned(), waits)
    }
}

/// The rows in the order of the stream.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) policy: OrderPolicy,
    pub(super) rows: Vec<Row>,
    pub(super) inserted: usize,
}

impl Model {
    pub(super) fn dead(&self) -> State {
        match self.policy {
            OrderPolicy::Skip => State::Passed,
            _ => State::Holds,
        }
    }

    pub(super) fn enters(&self, aggregate: usize, kind: Kind) -> State {
        let mut rows = self.rows.iter().filter(|row| row.aggregate == aggregate);
        let is_held = rows.clone().any(|row| row.state == State::Holds);
        match kind {
            Kind::Unknown => self.dead(),
            Kind::Left => State::Left,
            _ if is_held && self.policy == OrderPolicy::Park => State::Parked,
            _ if is_held || rows.any(Row::is_unfinished) => State::Waits,
            Kind::Wait => State::Due,
            _ => State::Runs(1),
        }
    }

    /// Gives the turn to who is next on a aggregate.
    pub(super) fn pass(&mut self, aggregate: usize) {
        let rows: Vec<usize> = (0..self.rows.len())
            .filter(|&row| self.rows[row].aggregate == aggregate)
            .collect();
        let next = rows
            .iter()
            .copied()
            .find(|&row| self.rows[row].state == State::Waits);
        let Some(next) = next else {
            return;
        };
        let may_another = rows.iter().any(|&row| {
            matches!(
                self.rows[row].state,
                State::Due | State::Failed | State::Runs(_)
            )
        });
        let is_held = rows
            .iter()
            .any(|&row| row < next && matches!(self.rows[row].state, State::Left | State::Holds));
        if !may_another && !is_held {
            self.rows[next].state = State::Due;
        }
    }

    pub(super) fn park(&mut self, aggregate: usize) {
        if self.policy != OrderPolicy::Park {
            return;
        }
        let mut is_held = false;
        for row in self
            .rows
            .iter_mut()
            .filter(|row| row.aggregate == aggregate)
        {
            if is_held && row.state == State::Waits {
                row.state = State::Parked;
            }
            is_held |= row.state == State::Holds;
        }
    }

    pub(super) fn running(&self) -> Vec<usize> {
        let running =
            (0..self.rows.len()).filter(|&row| matches!(self.rows[row].state, State::Runs(_)));
        running.collect()
    }

    /// That at most one event of each aggregate may run, that it is the first one but for those that were
    /// requeued behind it, and that none waits for nobody.
    pub(super) fn holds(&self) -> Checked {
        for aggregate in 0..3 {
            let rows = || self.rows.iter().filter(|row| row.aggregate == aggregate);
            let may_run =
                |row: &&Row| matches!(row.state, State::Due | State::Failed | State::Runs(_));
            prop_assert!(rows().filter(may_run).count() <= 1, "{self:?}");
            let waits = rows().position(|row| row.state == State::Waits);
            if let Some(waits) = waits {
                let is_held = rows()
                    .take(waits)
                    .any(|row| matches!(row.state, State::Left | State::Holds));
                prop_assert!(is_held || rows().any(|row| may_run(&row)), "{self:?}");
            }
        }
        Ok(())
    }
}
