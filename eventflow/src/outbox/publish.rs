//! What publishes: a handler's parameter, or a value over a transaction of the application's own.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};

use super::buffer::{Buffer, Declared, Outgoing, When};
use crate::{
    envelope::{EncodeError, Envelope},
    error::BoxError,
    event::Event,
    handler::{Classify, FailureKind},
};

/// Publishes events with a transaction: when it commits they are published, and else never.
///
/// A handler takes it as `outbox: &mut Outbox`, and is then one that takes the transaction. What it
/// publishes is written down by the unit of work, in the transaction that settles the event it
/// handles; what an attempt has published that fails, is cut or is repeated is gone with it. Each event
/// inherits the correlation id and the trace context of the one that is handled, and names it as its
/// cause. Its own id is fixed when it is published here, so that it has the same one however often it is
/// delivered.
///
/// Elsewhere, [`Outbox::new`] publishes in a transaction of the application's own.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// #[derive(Serialize, Deserialize, Event)]
/// struct OrderCreated {
///     #[event(aggregate_id)]
///     order_id: Uuid,
/// }
///
/// #[derive(Serialize, Deserialize, Event)]
/// struct OrderPaid {
///     #[event(aggregate_id)]
///     order_id: Uuid,
/// }
///
/// #[handler(publishes(OrderPaid))]
/// async fn charge_card(event: OrderCreated, outbox: &mut Outbox) -> Result<(), Failure> {
///     outbox.publish(&OrderPaid { order_id: event.order_id })?;
///     Ok(())
/// }
///
/// // In a test of the handler alone.
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Failure> {
/// let event = OrderCreated { order_id: Uuid::nil() };
/// let mut outbox = Outbox::detached(&Envelope::new(&event)?);
/// charge_card(event, &mut outbox).await?;
/// assert_eq!(outbox.events().count(), 1);
/// # Ok(())
/// # }
/// ```
///
/// It cannot outlive the handler's call:
/// ```compile_fail
/// # use eventflow::prelude::*;
/// # #[derive(Event)]
/// # struct OrderCreated;
/// #[handler]
/// async fn charge_card(_event: OrderCreated, outbox: &mut Outbox) {
///     tokio::spawn(async move { outbox.publish(&OrderCreated) });
/// }
/// ```
pub struct Outbox<T = Buffer> {
    pub(super) to: T,
}

impl Outbox {
    /// An outbox that nobody writes down: to call a handler in a test, as if it handled `cause`.
    pub fn detached(cause: &Envelope) -> Self {
        Self::caused_by(cause.clone())
    }

    pub(crate) fn caused_by(cause: Envelope) -> Self {
        Self {
            to: Buffer::caused_by(cause),
        }
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// If the event cannot be written as a JSON object, breaks a limit of the wire, or is not among
    /// those that the handler's `publishes(…)` names. No further attempt helps: `?` makes a dead letter
    /// of the event that is handled, and so does a handler that answers `Ok` all the same.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<(), PublishError> {
        self.add(event, When::Now)
    }

    /// Publishes an event at a time, or as soon after it as the relay comes to it.
    ///
    /// It is in no order with events that are published at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_at<E: Event>(
        &mut self,
        time: DateTime<Utc>,
        event: &E,
    ) -> Result<(), PublishError> {
        self.add(event, When::At(time))
    }

    /// Publishes an event so long after it is written down.
    ///
    /// It is in no order with events that are published at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_in<E: Event>(&mut self, delay: Duration, event: &E) -> Result<(), PublishError> {
        self.add(event, When::In(delay))
    }

    /// Publishes an event as it is in its envelope: with the ids that it has, caused by whatever it says.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_envelope(&mut self, envelope: Envelope) -> Result<(), PublishError> {
        self.to.add(Outgoing::new(envelope, When::Now))
    }

    /// The events that were published so far.
    pub fn events(&self) -> impl Iterator<Item = &Envelope> {
        self.to.outgoing().iter().map(|outgoing| &outgoing.envelope)
    }

    fn add<E: Event>(&mut self, event: &E, when: When) -> Result<(), PublishError> {
        let outgoing = Envelope::new(event)
            .map_err(PublishError::from)
            .and_then(|envelope| Outgoing::new(envelope.caused_by(self.to.cause()), when));
        self.to.add(outgoing)
    }

    /// Refuses all events but these from now on.
    pub(crate) fn declare(&mut self, handler: &'static str, event_types: &'static [&'static str]) {
        self.to.declare(Declared {
            handler,
            event_types,
        });
    }

    /// Takes what is to be published, or why it cannot be.
    pub(crate) fn take(self) -> Result<Vec<Outgoing>, String> {
        self.to.take()
    }
}

/// Prints how many events wait.
impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// An event that cannot be published. No further attempt helps: it is a dead letter's reason.
#[derive(Debug)]
pub struct PublishError {
    message: String,
    source: Option<BoxError>,
}

impl PublishError {
    pub(super) fn refused(envelope: &Envelope, error: BoxError) -> Self {
        // The id may itself be what breaks a limit.
        let event_type: String = envelope.metadata().event_type.chars().take(64).collect();
        Self {
            message: format!("event `{event_type}` cannot be published"),
            source: Some(error),
        }
    }

    pub(super) fn undeclared(handler: &str, event_type: &str) -> Self {
        Self {
            message: format!(
                "handler `{handler}` does not say that it publishes `{event_type}`; name the event in its `publishes(…)`"
            ),
            source: None,
        }
    }
}

impl From<EncodeError> for PublishError {
    fn from(error: EncodeError) -> Self {
        Self {
            message: "the event cannot be published".to_owned(),
            source: Some(error.into()),
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// No further run publishes the same event differently.
impl Classify for PublishError {
    fn classify(&self) -> FailureKind {
        FailureKind::DeadLetter
    }
}
