//! What a handler publishes, until the unit of work writes it down.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::publish::PublishError;
use crate::envelope::{Envelope, Metadata, wire};

/// Where a handler's [`Outbox`](super::Outbox) puts events: a list that belongs to the attempt.
///
/// The unit of work writes it down in the transaction that settles the event. The list of an attempt
/// that fails, is cut or is repeated goes with the attempt.
#[derive(Debug)]
pub struct Buffer {
    cause: Envelope,
    declared: Option<Declared>,
    outgoing: Vec<Outgoing>,
    refused: Option<String>,
}

/// The events that a handler says it publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared {
    pub(crate) handler: &'static str,
    pub(crate) event_types: &'static [&'static str],
}

/// An event on its way into the table.
#[expect(unnameable_types, reason = "only sealed traits name it")]
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub(crate) envelope: Envelope,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "without a database nothing is written down")
    )]
    pub(crate) when: When,
}

/// When an event is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as it is committed.
    Now,
    /// Not before this time, on the database's clock.
    At(DateTime<Utc>),
    /// So long after it is written down, on the database's clock.
    In(Duration),
}

impl Outgoing {
    /// Takes an event that can be written as an entry.
    pub(super) fn new(envelope: Envelope, when: When) -> Result<Self, PublishError> {
        let refused = |error| PublishError::refused(&envelope, error);
        wire::check(&envelope, wire::Limits::default()).map_err(refused)?;
        if let When::At(time) = when {
            wire::check_year("publish_at", &time).map_err(|error| refused(error.into()))?;
        }
        Ok(Self { envelope, when })
    }
}

impl Buffer {
    /// An empty list, for what is caused by this event.
    pub(crate) fn caused_by(cause: Envelope) -> Self {
        Self {
            cause,
            declared: None,
            outgoing: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn cause(&self) -> &Metadata {
        self.cause.metadata()
    }

    pub(super) fn outgoing(&self) -> &[Outgoing] {
        &self.outgoing
    }

    /// Takes only these events from now on.
    pub(super) fn declare(&mut self, declared: Declared) {
        self.declared = Some(declared);
    }

    /// Adds an event. One that is refused is remembered: a handler that answers `Ok` all the same has
    /// failed.
    pub(super) fn add(
        &mut self,
        outgoing: Result<Outgoing, PublishError>,
    ) -> Result<(), PublishError> {
        match outgoing.and_then(|outgoing| self.check_declared(outgoing)) {
            Ok(outgoing) => {
                self.outgoing.push(outgoing);
                Ok(())
            }
            Err(error) => {
                self.refused = Some(crate::error::chain(&error));
                Err(error)
            }
        }
    }

    fn check_declared(&self, outgoing: Outgoing) -> Result<Outgoing, PublishError> {
        let event_type = outgoing.envelope.metadata().event_type.as_str();
        match self.declared {
            Some(declared) if !declared.event_types.contains(&event_type) => {
                Err(PublishError::undeclared(declared.handler, event_type))
            }
            _ => Ok(outgoing),
        }
    }

    /// Takes what is to be published, or why it cannot be.
    pub(super) fn take(self) -> Result<Vec<Outgoing>, String> {
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(self.outgoing),
        }
    }
}
