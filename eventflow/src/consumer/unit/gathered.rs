//! What an open unit has in it.

use tokio::time::Instant;

use crate::{
    inbox::{Inbox, Row, Settlement},
    outbox::Outgoing,
};

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
    /// What their handlers have published.
    pub(super) outgoing: Vec<Outgoing>,
    /// From where on they share the savepoint that is set.
    pub(super) shared_from: Option<Mark>,
}

/// A place in what is gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    rows: usize,
    outgoing: usize,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            rows: Vec::new(),
            settlements: Vec::new(),
            outgoing: Vec::new(),
            shared_from: None,
        }
    }

    /// The rows that come from now on share a savepoint.
    pub(super) fn share_from_here(&mut self) {
        self.shared_from = Some(Mark {
            rows: self.rows.len(),
            outgoing: self.outgoing.len(),
        });
    }

    /// Takes out the rows that share a savepoint, which was rolled back to.
    pub(super) fn take_shared(&mut self) -> Vec<Row> {
        let Some(from) = self.shared_from.take() else {
            return Vec::new();
        };
        self.settlements.truncate(from.rows);
        self.outgoing.truncate(from.outgoing);
        self.rows.split_off(from.rows)
    }
}
