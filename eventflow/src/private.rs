//! What generated code calls besides the public items. Not for anyone else: it changes in any
//! version.
//!
//! The names of the functions that only check stand in messages of the compiler, as in "required
//! by a bound in `handler_transaction`".

use std::marker::PhantomData;
pub use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
pub use uuid::Uuid;

use crate::{
    envelope::{DecodeError, EncodeError, Envelope, Payload},
    event::{self, Contains, Event},
    handler::{Handler, HandlerInput, param::Connection},
    router::CoveredBy,
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

impl<H: 'static> Event for NoEvent<H> {
    const TYPE: &'static str = "";

    fn aggregate_id(&self) -> Option<Uuid> {
        None
    }

    fn encode(&self) -> Result<Payload, EncodeError> {
        Ok(Payload::empty())
    }

    fn decode(_payload: &Payload) -> Result<Self, DecodeError> {
        Ok(Self(PhantomData))
    }
}

/// A fallback handler's first parameter.
#[diagnostic::on_unimplemented(
    message = "a fallback handler takes an `Envelope`, this one takes `{Self}`",
    label = "takes `{Self}`",
    note = "make the first parameter an `Envelope`, or move the handler to `handlers(…)`"
)]
pub trait FallbackInput: HandlerInput {}

impl FallbackInput for Envelope {}

/// Reads a handler's event. That it is one was said where the handler names it.
///
/// # Errors
/// If the payload is not what the event expects.
pub fn event_of<H: Handler>(envelope: &Envelope) -> Result<H::Event, DecodeError> {
    H::Event::from_envelope(envelope)
}

/// Checks that a parameter `&mut C` is a transaction.
pub fn handler_transaction<C: Connection>() {}

/// Checks that an event of the router is in its set.
pub fn event_of_the_set<Set: Contains<E>, E>() {}

/// Checks that a fallback takes the envelope.
pub fn fallback_handler<E: FallbackInput>() {}

/// Checks that a router covers its set.
pub fn every_event_is_handled<Set: CoveredBy<R>, R>() {}

/// Checks that no event before the one at `index` has its name on the wire. `events` are the
/// names of the types, each with its name on the wire.
///
/// # Panics
/// If one has; in a constant, so the text is the compiler's message.
#[track_caller]
#[expect(clippy::panic, reason = "it is evaluated by the compiler only")]
pub const fn assert_unique_name(set: &str, events: &[(&str, &str)], index: usize) {
    let (earlier, rest) = events.split_at(index);
    let Some(((event, name), _)) = rest.split_first() else {
        return;
    };
    let mut earlier = earlier;
    while let Some(((other, other_name), others)) = earlier.split_first() {
        if same(name, other_name) {
            let text = Text::new()
                .push("events `")
                .push(other)
                .push("` and `")
                .push(event)
                .push("` of the set `")
                .push(set)
                .push("` have the same name on the wire, `")
                .push(name)
                .push("`; give one of them another with `#[event(type = \"…\")]`");
            panic!("{}", text.as_str());
        }
        earlier = others;
    }
}

const fn same(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    while let (Some((a, one_rest)), Some((b, other_rest))) =
        (one.split_first(), other.split_first())
    {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    true
}

/// Text that is put together in a constant, where there is no `format!`.
struct Text {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Text {
    /// Enough for three long paths and a wire name; what is beyond is cut.
    const CAPACITY: usize = 2048;

    const fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "constants have no `get_mut`; the place is checked"
    )]
    const fn push(mut self, text: &str) -> Self {
        if self.length + text.len() > Self::CAPACITY {
            return self;
        }
        let mut bytes = text.as_bytes();
        while let Some((byte, rest)) = bytes.split_first() {
            self.bytes[self.length] = *byte;
            self.length += 1;
            bytes = rest;
        }
        self
    }

    const fn as_str(&self) -> &str {
        let (text, _) = self.bytes.split_at(self.length);
        match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => "two events of a set have the same name on the wire",
        }
    }
}
