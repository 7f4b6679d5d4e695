//! What an open unit has in it.

use tokio::time::Instant;

use crate::inbox::{Inbox, Row, Settlement};

/// An open unit.
pub(super) struct Open<I: Inbox> {
    pub(super) unit: I::Unit,
    pub(super) gathered: Gathered,
}

/// What an open unit has in it.
pub(super) struct Gathered {
    pub(super) since: Instant,
    pub(super) rows: Vec<Row>,
    pub(super) settlements: Vec<Settlement>,
    /// From which row on they share the savepoint that is set.
    pub(super) shared_from: Option<usize>,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            rows: Vec::new(),
            settlements: Vec::new(),
            shared_from: None,
        }
    }

    /// Takes out the rows that share a savepoint, which was rolled back to.
    pub(super) fn take_shared(&mut self) -> Vec<Row> {
        let Some(from) = self.shared_from.take() else {
            return Vec::new();
        };
        self.settlements.truncate(from);
        self.rows.split_off(from)
    }
}
