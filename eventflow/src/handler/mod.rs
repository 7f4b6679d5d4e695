//! Handlers: what `#[handler]` makes of an `async fn`.
//!
//! What a handler may ask for stands in [`param`], what it may answer in [`failure`]. Which
//! handler runs for which event is [`router`](mod@crate::router)'s business.

pub mod failure;
pub mod param;

use std::time::Duration;

use crate::{
    delivery::{Delivery, Transaction},
    envelope::{DecodeError, Envelope},
    event::Event,
    inbox::Inbox,
};

pub use self::{
    failure::{Classify, Failure, FailureKind, HandlerOutput},
    param::{FromDelivery, FromRef, HandlerParam, State},
};

/// A function that handles one type of event; implemented by `#[handler]`.
///
/// The implementing type is a struct with the function's name, so that one `use` brings
/// both.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "name an `async fn` that is annotated with `#[handler]`"
)]
pub trait Handler: Send + Sync + 'static {
    /// The type of the first parameter.
    type Event: HandlerInput;

    /// The function's name.
    const NAME: &'static str;

    /// Whether any parameter is the transaction.
    const TRANSACTIONAL: bool;

    /// Whether it has no effects outside its transaction that a second run would repeat.
    const REPLAY_SAFE: bool = false;

    /// What it publishes.
    const PUBLISHES: Publishes = Publishes::Nothing;

    /// After which time one call is cut, counted from where it first waits; `None` takes the consumer's
    /// (30 s).
    const TIMEOUT: Option<Duration> = None;

    /// How often a failed call is repeated at once, in process; `None` is never.
    const RETRY: Option<ImmediateRetry> = None;
}

/// What a handler publishes, as far as the compiler knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publishes {
    /// Nothing: it does not take the outbox.
    Nothing,
    /// Whatever it gives to the outbox.
    Anything,
    /// Events of these types; the outbox refuses others.
    Only(&'static [&'static str]),
}

/// Repeating a failed call at once, in process, from a clean savepoint.
///
/// Meant for what passes in a few milliseconds; everything longer is the inbox's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImmediateRetry {
    /// Calls in all, the first one counted.
    pub attempts: u32,
    /// Time between two calls.
    pub backoff: Duration,
}

impl ImmediateRetry {
    /// `attempts` calls in all, `backoff` between two of them.
    pub const fn new(attempts: u32, backoff: Duration) -> Self {
        Self { attempts, backoff }
    }
}

/// A handler that can run over the inbox `I` with a router's state `S`; implemented by
/// `#[handler]`.
pub trait Handle<I: Inbox, S>: Handler {
    /// Decodes the event, takes the other parameters from the delivery and the state, and calls
    /// the function.
    fn handle(
        delivery: &Delivery<I>,
        state: &S,
        transaction: &mut Transaction<I>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a handler's first parameter may be: an [`Event`], or the [`Envelope`] as it came.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Event`",
    label = "the first parameter of a handler is the event",
    note = "annotate `{Self}` with `#[derive(Event)]`; a fallback handler takes an `Envelope`"
)]
pub trait HandlerInput: Sized + Send + 'static {
    /// Reads the parameter from the envelope.
    ///
    /// # Errors
    /// If the payload is not what the event expects.
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<E: Event> HandlerInput for E {
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError> {
        envelope.decode()
    }
}

impl HandlerInput for Envelope {
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError> {
        Ok(envelope.clone())
    }
}
