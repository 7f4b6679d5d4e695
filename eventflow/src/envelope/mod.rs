//! The envelope: an event as it travels, with what is known about it.
//!
//! Reading envelopes from stream entries and writing them is [`wire`]'s part; the typed struct
//! inside is [`event`](crate::event)'s.

mod payload;
pub mod wire;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use self::payload::{DecodeError, EncodeError, Payload};
use crate::event::Event;

/// What is known about an event besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Names the event; a second event of this name is a duplicate. At most 255 characters.
    ///
    /// Also the idempotency key for effects outside the transaction.
    pub event_id: String,
    /// The event's name on the wire. At most 128 characters.
    pub event_type: String,
    /// The aggregate that the event is about.
    pub aggregate_id: Uuid,
    /// When it happened, says its producer.
    pub occurred_on: DateTime<Utc>,
    /// Names the conversation that the event belongs to. At most 255 characters.
    pub correlation_id: Option<String>,
    /// The id of the event or command that caused this one. At most 255 characters.
    pub causation_id: Option<String>,
    /// The W3C trace context of the producer.
    pub traceparent: Option<String>,
    /// The id of the stream's entry that brought the event; `None` before it was published.
    pub stream_id: Option<String>,
    /// Which scheduled run this is: 1 at first.
    pub attempt: u32,
}

#[cfg(test)]
impl Metadata {
    /// What a unit test needs to know about an event.
    pub(crate) fn of(event_id: &str) -> Self {
        Self {
            event_id: event_id.to_owned(),
            event_type: "OrderPaid".to_owned(),
            aggregate_id: Uuid::nil(),
            occurred_on: DateTime::UNIX_EPOCH,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            stream_id: None,
            attempt: 1,
        }
    }
}

/// An event as it travels: its metadata and its payload. Cloning is cheap.
///
/// # Examples
/// ```
/// # #[cfg(feature = "macros")] {
/// use eventflow::prelude::*;
///
/// #[derive(Serialize, Deserialize, Event)]
/// struct OrderPaid {
///     #[event(aggregate_id)]
///     order_id: Uuid,
/// }
///
/// let event = OrderPaid { order_id: Uuid::nil() };
/// let envelope = Envelope::new(&event)?.with_correlation_id("checkout-7");
/// assert_eq!(envelope.metadata().event_type, "OrderPaid");
/// # }
/// # Ok::<(), eventflow::EncodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    metadata: Arc<Metadata>,
    payload: Payload,
}

impl Envelope {
    /// Wraps an event that has just happened: a new id (UUID v7), now.
    ///
    /// The aggregate is the event's own; an event that names none is its own aggregate.
    ///
    /// # Errors
    /// If the event cannot be written as a JSON object.
    pub fn new<E: Event>(event: &E) -> Result<Self, EncodeError> {
        let payload = event.encode()?;
        let id = Uuid::now_v7();
        Ok(Self {
            metadata: Arc::new(Metadata {
                event_id: id.to_string(),
                event_type: E::TYPE.to_owned(),
                aggregate_id: event.aggregate_id().unwrap_or(id),
                occurred_on: Utc::now(),
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                stream_id: None,
                attempt: 1,
            }),
            payload,
        })
    }

    /// Puts an event together again, as to publish a dead letter once more with its payload mended.
    pub fn from_parts(metadata: Metadata, payload: Payload) -> Self {
        Self {
            metadata: Arc::new(metadata),
            payload,
        }
    }

    /// The same event with its payload as a column gives it back.
    pub(crate) fn with_payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        Arc::make_mut(&mut self.metadata)
    }

    /// Names the event: a producer that may publish twice gives the same id both times.
    #[must_use]
    pub fn with_event_id(mut self, event_id: impl Into<String>) -> Self {
        self.metadata_mut().event_id = event_id.into();
        self
    }

    /// Names the aggregate.
    #[must_use]
    pub fn with_aggregate_id(mut self, aggregate_id: Uuid) -> Self {
        self.metadata_mut().aggregate_id = aggregate_id;
        self
    }

    /// Sets when it happened.
    #[must_use]
    pub fn with_occurred_on(mut self, occurred_on: DateTime<Utc>) -> Self {
        self.metadata_mut().occurred_on = occurred_on;
        self
    }

    /// Names the conversation.
    #[must_use]
    pub fn with_correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.metadata_mut().correlation_id = Some(correlation_id.into());
        self
    }

    /// Names the event or command that caused this one.
    #[must_use]
    pub fn with_causation_id(mut self, causation_id: impl Into<String>) -> Self {
        self.metadata_mut().causation_id = Some(causation_id.into());
        self
    }

    /// Sets the W3C trace context, as `00-<trace id>-<span id>-01`.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.metadata_mut().traceparent = Some(traceparent.into());
        self
    }

    /// Marks the event as caused by the one being handled: same conversation, its id as the cause.
    #[must_use]
    pub fn caused_by(mut self, cause: &Metadata) -> Self {
        self.metadata_mut().causation_id = Some(cause.event_id.clone());
        self.metadata_mut().correlation_id = cause
            .correlation_id
            .clone()
            .or_else(|| Some(cause.event_id.clone()));
        self.metadata_mut()
            .traceparent
            .clone_from(&cause.traceparent);
        self
    }

    /// What is known about the event.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The event itself, as JSON text.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Reads the payload into an event's struct, whatever the envelope's event type says.
    ///
    /// # Errors
    /// If the payload is not what the struct expects; the error names the JSON path.
    pub fn decode<E: Event>(&self) -> Result<E, DecodeError> {
        E::decode(&self.payload)
    }
}
