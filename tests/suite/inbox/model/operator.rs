//! What an operator does to the rows, and what one sees of them.

use eventflow::inbox::{Counts, Status};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Checked, observed::Observed, row::Wait, table::Table};

impl Table {
    pub(super) fn unpark(&mut self, consumer: usize, of_type: Option<&str>) -> u64 {
        let mut unparked = 0;
        for row in self.rows_of(consumer) {
            let is_meant = of_type.is_none_or(|of_type| of_type == row.event_type);
            if row.state.wait == Some(Wait::Parked) && is_meant {
                row.state.wait = Some(Wait::Over);
                unparked += 1;
            }
        }
        unparked
    }

    pub(super) fn requeue(&mut self, consumer: usize, ids: &[Uuid]) -> u64 {
        let mut requeued = 0;
        for ((owner, event_id), row) in &mut self.rows {
            if *owner == consumer
                && ids.contains(&row.id)
                && row.state.status == Status::DeadLetter
                && !event_id.starts_with("malformed:")
            {
                row.state.disown(Status::Pending);
                row.state.retry_count = 0;
                row.state.error = None;
                row.state.wait = Some(Wait::Over);
                requeued += 1;
            }
        }
        requeued
    }

    pub(super) fn discard(&mut self, consumer: usize, ids: &[Uuid]) -> u64 {
        let discarded = self.rows.extract_if(.., |(owner, _), row| {
            *owner == consumer && ids.contains(&row.id) && row.state.status == Status::DeadLetter
        });
        u64::try_from(discarded.count()).unwrap()
    }

    /// Which of the old rows go first is the database's choice.
    pub(super) fn purge(
        &mut self,
        consumer: usize,
        limit: u32,
        purged: u64,
        left: &[Observed],
    ) -> Checked {
        let old = self.rows_of(consumer).filter(|row| row.state.old).count();
        let expected = u64::try_from(old).unwrap().min(u64::from(limit));
        prop_assert_eq!(purged, expected);
        let gone = self.rows.extract_if(.., |(owner, _), row| {
            *owner == consumer && row.state.old && left.iter().all(|left| left.id != row.id)
        });
        prop_assert_eq!(u64::try_from(gone.count()).unwrap(), purged);
        Ok(())
    }

    pub(super) fn counts(&self, consumer: usize) -> Counts {
        let mut counts = Counts::default();
        for ((owner, _), row) in &self.rows {
            if *owner == consumer {
                *match row.state.status {
                    Status::Pending => &mut counts.pending,
                    Status::Processing => &mut counts.processing,
                    Status::Processed => &mut counts.processed,
                    Status::Failed => &mut counts.failed,
                    _ => &mut counts.dead_letter,
                } += 1;
            }
        }
        counts
    }

    /// Whether the next waiting row is due later; `None` if none waits.
    pub(super) fn waits(&self, consumer: usize) -> Option<bool> {
        let waits = self
            .rows
            .iter()
            .filter(|((owner, _), _)| *owner == consumer);
        waits
            .filter_map(|(_, row)| match row.state.wait {
                Some(Wait::Over) => Some(false),
                Some(Wait::Hour) => Some(true),
                Some(Wait::Parked) | None => None,
            })
            .min()
    }

    /// The dead letters' ids, in order.
    pub(super) fn dead(&self, consumer: usize) -> Vec<Uuid> {
        let rows = self.rows.iter().filter(|((owner, _), row)| {
            *owner == consumer && row.state.status == Status::DeadLetter
        });
        let mut ids: Vec<_> = rows.map(|(_, row)| row.id).collect();
        ids.sort();
        ids
    }
}
