//! Events and closed sets of events: what the derives implement.
//!
//! How an event travels is [`envelope`](crate::envelope)'s business, who handles it is
//! [`router`](mod@crate::router)'s.

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::envelope::{DecodeError, EncodeError, Envelope, Payload};

/// A fact that a service publishes or handles: a struct with a name on the wire.
///
/// Derived with [`#[derive(Event)]`](macro@crate::Event), which also needs serde's `Serialize` and
/// `Deserialize` unless the struct has no fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Event`",
    label = "not an `Event`",
    note = "annotate `{Self}` with `#[derive(Event)]`"
)]
pub trait Event: Sized + Send + 'static {
    /// The name on the wire: `event_type`, at most 128 characters.
    const TYPE: &'static str;

    /// The aggregate that the event is about, or `None` if the event names none.
    fn aggregate_id(&self) -> Option<Uuid>;

    /// Writes the event as a payload.
    ///
    /// # Errors
    /// If serde refuses, or if the event is written as anything but a JSON object.
    fn encode(&self) -> Result<Payload, EncodeError>;

    /// Reads the event from a payload.
    ///
    /// # Errors
    /// If the payload is not what the struct expects; the error names the JSON path.
    fn decode(payload: &Payload) -> Result<Self, DecodeError>;
}

/// A closed set of events: everything that a stream carries.
///
/// Derived with [`#[derive(EventSet)]`](macro@crate::EventSet) on an enum whose variants each hold
/// one event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `EventSet`",
    label = "not an `EventSet`",
    note = "annotate the enum `{Self}` with `#[derive(EventSet)]`"
)]
pub trait EventSet: Sized + Send + 'static {
    /// The wire names of the set's events, in the order of the enum's variants.
    const TYPES: &'static [&'static str];

    /// Reads an envelope into the variant of its event type.
    ///
    /// # Errors
    /// If the set has no event of that type, or if the payload is not what the event expects.
    fn decode(envelope: &Envelope) -> Result<Self, DecodeError>;
}

/// Says that a set has the event `E`; implemented by `#[derive(EventSet)]`.
#[diagnostic::on_unimplemented(
    message = "event `{E}` is not in the set `{Self}`",
    label = "`{E}` is not in `{Self}`",
    note = "add a variant that holds `{E}` to `{Self}`, or take it out of the router"
)]
pub trait Contains<E> {}

/// Writes `event` with serde. Called by generated code.
///
/// # Errors
/// As [`Event::encode`].
#[doc(hidden)]
pub fn encode<E: Event + Serialize>(event: &E) -> Result<Payload, EncodeError> {
    Payload::encode(E::TYPE, event)
}

/// Reads an event with serde. Called by generated code.
///
/// # Errors
/// As [`Event::decode`].
#[doc(hidden)]
pub fn decode<E: Event + DeserializeOwned>(payload: &Payload) -> Result<E, DecodeError> {
    payload.decode(E::TYPE)
}
