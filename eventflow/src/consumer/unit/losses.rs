//! What becomes of the rows of a unit that is taken back, or lost.

use super::{UnitOfWork, commit::Uncommitted};
use crate::{
    consumer::outcome,
    error::{BoxError, chain},
    handler::Failure,
    inbox::{Inbox, LossKind, Row},
};

impl<Src, I> UnitOfWork<'_, Src, I>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    /// Has rows run again whose writes were taken back, with a savepoint each.
    pub(super) fn note_undone(&mut self, undone: Vec<Row>) {
        tracing::debug!(
            rows = undone.len(),
            "a failure took back the events of its unit; they run again with savepoints"
        );
        self.optimistic = false;
        self.engine.optimism.note_failure();
        self.engine.held.note_undone(&undone);
        self.undone.extend(undone);
    }

    /// Notes that a unit was lost with rows that it had inserted, if it had.
    pub(super) fn lose_newborn(&mut self, kind: LossKind, error: &BoxError) -> bool {
        let Some(newborn) = self.newborn.take() else {
            return false;
        };
        newborn.lost(&self.engine.held);
        self.note_newborn_lost(kind, error);
        true
    }

    pub(super) fn note_newborn_lost(&mut self, kind: LossKind, error: &BoxError) {
        self.engine.note_unit_lost(kind, error);
        self.has_lost_newborn = true;
        self.undone.clear();
        self.back.clear();
    }

    /// Decides what becomes of the row with which a unit was lost.
    pub(super) fn lose(
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

    /// Decides what becomes of the rows of a unit that was lost at its end.
    pub(super) fn lose_at_commit(&mut self, uncommitted: Uncommitted, mut rows: Vec<Row>) {
        let Uncommitted { lost, overtaken } = uncommitted;
        let (kind, error) = (lost.kind(), lost.into());
        if self.lose_newborn(kind, &error) {
            return;
        }
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
}
