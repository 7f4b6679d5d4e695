//! The rows that an open unit has inserted, and that are nobody's before it commits.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    consumer::held::Held,
    inbox::{Lease, Row, Settlement, Status},
};

/// Rows that enter with their unit: as processed, unless they are amended before its commit.
pub(in crate::consumer) struct Newborn {
    leases: Vec<Lease>,
    /// Told when the rows are committed; dropped when they are lost.
    committed: oneshot::Sender<()>,
}

impl Newborn {
    /// The rows of one insertion, and what tells of their commit.
    pub(in crate::consumer) fn new(rows: &[Row], held: &Held) -> (Self, oneshot::Receiver<()>) {
        let (committed, stored) = oneshot::channel();
        let leases = rows.iter().map(|row| row.lease).collect();
        held.add_newborn(rows);
        (Self { leases, committed }, stored)
    }

    /// What the rows are to be besides processed: those that are not settled yet run later, leased.
    pub(in crate::consumer) fn amendments(&self, settlements: &[Settlement]) -> Vec<Settlement> {
        let other = settlements
            .iter()
            .filter(|settlement| settlement.status != Status::Processed);
        let to_run = self.to_run(settlements).map(|lease| Settlement {
            lease,
            status: Status::Processing,
            retry_count: 0,
            delay: Duration::ZERO,
            error_message: None,
        });
        other.cloned().chain(to_run).collect()
    }

    /// The unit is committed: what was not settled in it is leased from now on.
    pub(in crate::consumer) fn committed(self, settlements: &[Settlement], held: &Held) {
        held.own(self.to_run(settlements));
        // One that does not wait for it has gone with the runtime.
        _ = self.committed.send(());
    }

    /// The unit is lost, and the rows with it.
    pub(in crate::consumer) fn lost(self, held: &Held) {
        held.remove(self.leases);
    }

    fn to_run<'n>(&'n self, settlements: &'n [Settlement]) -> impl Iterator<Item = Lease> + 'n {
        // Nearly always all of them are, and none has to be looked for.
        let leases = if settlements.len() == self.leases.len() {
            [].as_slice()
        } else {
            self.leases.as_slice()
        };
        let is_settled = |lease: &Lease| settlements.iter().any(|settled| settled.lease == *lease);
        leases
            .iter()
            .filter(move |lease| !is_settled(lease))
            .copied()
    }
}
