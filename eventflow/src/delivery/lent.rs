//! The parts of the transaction, as one call of a handler takes them.

use crate::{handler::Failure, inbox::Inbox, outbox::Outbox};

/// What is lent to one call of a handler: each part is taken once.
#[derive(Debug)]
pub struct Lent<'t, I: Inbox> {
    connection: Option<&'t mut I::Connection>,
    outbox: Option<&'t mut Outbox>,
}

impl<'t, I: Inbox> Lent<'t, I> {
    pub(super) fn new(connection: &'t mut I::Connection, outbox: &'t mut Outbox) -> Self {
        Self {
            connection: Some(connection),
            outbox: Some(outbox),
        }
    }

    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "without a database nothing is lent")
    )]
    pub(crate) fn take_connection(&mut self) -> Result<&'t mut I::Connection, Failure> {
        self.connection.take().ok_or_else(taken)
    }

    pub(crate) fn take_outbox(&mut self) -> Result<&'t mut Outbox, Failure> {
        self.outbox.take().ok_or_else(taken)
    }
}

/// The compiler has refused such a handler.
fn taken() -> Failure {
    Failure::dead_letter("a handler took a part of its transaction twice")
}
