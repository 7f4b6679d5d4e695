//! What generated code calls besides the public items. Not for anyone else: it changes in any
//! version.
//!
//! The names of the functions that only check stand in messages of the compiler, as in "required
//! by a bound in `handler_transaction`".

pub use std::sync::Arc;
use std::{error::Error, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};
pub use uuid::Uuid;

pub use crate::unique_name::UniqueNames;
use crate::{
    delivery::Delivery,
    envelope::{DecodeError, EncodeError, Envelope, Payload},
    event::{self, Contains, Event, EventSet},
    handler::{Failure, Handler, HandlerInput, HandlerParam, Publishes, param::TransactionPart},
    inbox::Inbox,
    router::{CoveredBy, Handles, Ignored},
};

/// What `#[event(aggregate_id)]` may stand on.
#[diagnostic::on_unimplemented(
    message = "the id of an aggregate is a `Uuid`, not `{Self}`",
    label = "not a `Uuid`",
    note = "make the field a `Uuid`, or take `#[event(aggregate_id)]` off it"
)]
pub trait AggregateId {
    fn aggregate_id(&self) -> Uuid;
}

impl AggregateId for Uuid {
    fn aggregate_id(&self) -> Uuid {
        *self
    }
}

/// A cause as an error: the method is found on what a box holds too.
pub trait AsDynError {
    fn as_dyn_error(&self) -> &(dyn Error + 'static);
}

impl<E: Error + 'static> AsDynError for E {
    fn as_dyn_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl AsDynError for dyn Error + 'static {
    fn as_dyn_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl AsDynError for dyn Error + Send + Sync + 'static {
    fn as_dyn_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

/// An event that serde can write and read.
#[diagnostic::on_unimplemented(
    message = "event `{Self}` cannot be written and read as JSON",
    label = "not `Serialize` and `Deserialize`",
    note = "annotate `{Self}` with `#[derive(Serialize, Deserialize)]` and its fields' types too"
)]
pub trait JsonEvent: Event {
    fn write(&self) -> Result<Payload, EncodeError>;
    fn read(payload: &Payload) -> Result<Self, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<E: Event + Serialize + DeserializeOwned> JsonEvent for E {
    fn write(&self) -> Result<Payload, EncodeError> {
        event::encode(self)
    }

    fn read(payload: &Payload) -> Result<Self, DecodeError> {
        event::decode(payload)
    }
}

/// The event of a handler `H` that was reported as having none. Every set contains it, so that
/// nothing is said twice.
#[derive(Debug)]
pub struct NoEvent<H>(PhantomData<fn() -> H>);

impl<H: 'static> HandlerInput for NoEvent<H> {
    fn from_envelope(_envelope: &Envelope) -> Result<Self, DecodeError> {
        Ok(Self(PhantomData))
    }
}

#[diagnostic::do_not_recommend]
impl<H> EventInput<H> for NoEvent<H> {}

/// The type itself, once its check has passed.
///
/// A check is a constant that compiles only for what passes it. Where it does not, the compiler
/// says so there, and says nothing about what is built on the type.
pub trait Checked<const PASSED: bool> {
    type Type;
}

impl<T> Checked<true> for T {
    type Type = T;
}

/// Checks that a router's set is one, of events only: a set that holds something else was reported
/// where it is derived.
pub const fn is_event_set<Set: EventSet>() -> bool {
    let _ = Set::TYPES;
    true
}

/// Checks that a router calls handlers only.
pub const fn is_handler<H: Handler>() -> bool {
    true
}

/// Checks that what a router ignores, or a set holds, is an event.
pub const fn is_event<E: Event>() -> bool {
    true
}

/// Checks that a type with parameters, which a set holds, is an event.
pub const fn variant_holds_event<E: VariantEvent>() -> bool {
    true
}

/// An event, in a set.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Event`",
    label = "not an `Event`",
    note = "a variant holds the event itself, with no other type around it, as `Created(OrderCreated)`"
)]
pub trait VariantEvent {}

#[diagnostic::do_not_recommend]
impl<E: Event> VariantEvent for E {}

/// The place of an envelope's event in a set.
///
/// A search for the name, and then a `match` on the place: the compiler is slow on a `match` with
/// hundreds of names. Routers, which search for every event, have tables for it.
pub fn place_in<Set: EventSet>(envelope: &Envelope) -> Option<usize> {
    let name = &envelope.metadata().event_type;
    Set::TYPES.iter().position(|known| known == name)
}

/// Reads an event of a set into its variant.
///
/// # Errors
/// If the payload is not what the event expects.
pub fn decode_into<E: Event, Set>(
    envelope: &Envelope,
    variant: fn(E) -> Set,
) -> Result<Set, DecodeError> {
    E::decode(envelope.payload()).map(variant)
}

/// What `H` takes as its first parameter: these constants go before those of [`NoInput`].
#[derive(Debug)]
pub struct Takes<H>(PhantomData<fn() -> H>);

impl<H: Handler<Event: HandlerInput>> Takes<H> {
    pub const IS_INPUT: bool = true;
}

impl<H: Handler<Event: Event>> Takes<H> {
    pub const IS_EVENT: bool = true;
}

impl<H: Handler<Event = Envelope>> Takes<H> {
    pub const IS_ENVELOPE: bool = true;
}

/// What everything else takes, handler or not.
pub trait NoInput {
    const IS_INPUT: bool = false;
    const IS_EVENT: bool = false;
    const IS_ENVELOPE: bool = false;
}

impl<H> NoInput for Takes<H> {}

/// The first parameter of a handler; [`NoEvent`] where it was reported as none.
pub trait InputOf<const IS_INPUT: bool> {
    type Input;
}

impl<H: Handler<Event: HandlerInput>> InputOf<true> for H {
    type Input = H::Event;
}

impl<H> InputOf<false> for H {
    type Input = NoEvent<H>;
}

/// The event of a handler; one that takes none gets [`NoEvent`].
pub trait EventOf<const IS_EVENT: bool> {
    type Event;
}

impl<H: Handler<Event: Event>> EventOf<true> for H {
    type Event = H::Event;
}

impl<H> EventOf<false> for H {
    type Event = NoEvent<H>;
}

/// The name on the wire of what [`EventOf`] answers.
pub trait EventType {
    const TYPE: &'static str;
}

impl<E: Event> EventType for E {
    const TYPE: &'static str = E::TYPE;
}

impl<H> EventType for NoEvent<H> {
    const TYPE: &'static str = "";
}

/// The router; if not all that it handles is known, one that handles everything.
pub trait RouterOf<const KNOWN: bool> {
    type Router;
}

impl<R> RouterOf<true> for R {
    type Router = R;
}

impl<R> RouterOf<false> for R {
    type Router = HandlesAll;
}

#[derive(Debug)]
pub struct HandlesAll;

impl<E> Handles<E> for HandlesAll {
    type By = Ignored;
}

/// The first parameter of a handler among `handlers(…)`.
#[diagnostic::on_unimplemented(
    message = "handler `{H}` takes `{Self}`, which is no event of a set",
    label = "takes `{Self}`",
    note = "make the first parameter an event; a handler that takes the `Envelope` goes into `fallback(…)`"
)]
pub trait EventInput<H> {}

#[diagnostic::do_not_recommend]
impl<E: Event, H> EventInput<H> for E {}

/// A fallback handler's first parameter.
#[diagnostic::on_unimplemented(
    message = "fallback handler `{H}` takes `{Self}`, not the `Envelope`",
    label = "takes `{Self}`",
    note = "make the first parameter an `Envelope`, or move the handler to `handlers(…)`"
)]
pub trait FallbackInput<H> {}

impl<H> FallbackInput<H> for Envelope {}

#[diagnostic::do_not_recommend]
impl<H> FallbackInput<H> for NoEvent<H> {}

/// Reads a handler's event. That it is one was said where the handler names it.
///
/// # Errors
/// If the payload is not what the event expects.
pub fn event_of<H: Handler, I: Inbox>(delivery: &Delivery<I>) -> Result<H::Event, Failure> {
    Ok(H::Event::from_envelope(delivery.envelope())?)
}

/// Awaits a handler's function, if its arguments were there.
///
/// # Errors
/// That of the arguments, or what the function answered.
pub async fn call<F: Future>(
    function: Result<F, Failure>,
    answer: fn(F::Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    answer(function?.await)
}

/// Checks that a parameter `&mut T` is a part of the transaction.
pub const fn handler_transaction<T: TransactionPart>() -> bool {
    true
}

/// Checks that two parameters are not the same part of the transaction.
#[expect(clippy::panic, reason = "it is evaluated by the compiler only")]
pub const fn two_parts<First: TransactionPart, Second: TransactionPart>() {
    match (First::IS_OUTBOX, Second::IS_OUTBOX) {
        (true, true) => panic!("a handler has one outbox; remove the second `&mut` parameter"),
        (false, false) => {
            panic!("a handler has one transaction; remove the second `&mut` parameter")
        }
        _ => {}
    }
}

/// What a handler publishes that takes the outbox or does not, and that declares these types or none.
#[expect(clippy::panic, reason = "it is evaluated by the compiler only")]
pub const fn publishes(takes_outbox: bool, declared: Option<&'static [&'static str]>) -> Publishes {
    match (takes_outbox, declared) {
        (false, None) => Publishes::Nothing,
        (true, None) => Publishes::Anything,
        (true, Some(event_types)) => Publishes::Only(event_types),
        (false, Some(_)) => {
            panic!("a handler that `publishes(…)` takes `outbox: &mut Outbox`")
        }
    }
}

/// Checks that a parameter is one that a handler takes by value.
pub const fn handler_parameter<P: HandlerParam>() -> bool {
    true
}

/// Checks that a handler among `handlers(…)` takes an event.
pub fn handler_takes_event<H, E: EventInput<H>>() {}

/// Checks that a fallback takes the envelope.
pub fn fallback_takes_envelope<H, E: FallbackInput<H>>() {}

/// Checks that an event of the router is in its set.
pub fn event_of_the_set<Set: Contains<E>, E>() {}

/// Checks that a router covers its set.
pub fn every_event_is_handled<Set: CoveredBy<R>, R>() {}
