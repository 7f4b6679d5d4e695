//! What a table says of itself: its routes, and which events it knows.

use std::time::Duration;

use crate::handler::{Handler, ImmediateRetry, Publishes};

/// What a router does with an event of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// It runs a handler.
    Handler(HandlerRoute),
    /// It was told to ignore the type.
    Ignored,
    /// It does not know the type.
    Unknown,
}

/// How a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerRoute {
    /// The handler's place in the router.
    pub index: usize,
    /// The handler's name.
    pub name: &'static str,
    /// Whether it takes the transaction.
    pub transactional: bool,
    /// Whether it may run again as if it had not run before.
    pub replay_safe: bool,
    /// What it publishes.
    pub publishes: Publishes,
    /// After which time one call is cut; `None` takes the consumer's.
    pub timeout: Option<Duration>,
    /// How often a failed call is repeated within one attempt; `None` is never.
    pub retry: Option<ImmediateRetry>,
}

impl HandlerRoute {
    /// The route of a handler. Called by generated code.
    #[doc(hidden)]
    pub const fn of<H: Handler>(index: usize) -> Self {
        Self {
            index,
            name: H::NAME,
            transactional: H::TRANSACTIONAL,
            replay_safe: H::REPLAY_SAFE,
            publishes: H::PUBLISHES,
            timeout: H::TIMEOUT,
            retry: H::RETRY,
        }
    }

    /// The longest time that one attempt may take, all its calls counted.
    pub(crate) fn longest(&self, default_timeout: Duration) -> Duration {
        let call = self.timeout.unwrap_or(default_timeout);
        match self.retry {
            Some(retry) => call
                .saturating_add(retry.backoff)
                .saturating_mul(retry.attempts.max(1)),
            None => call,
        }
    }
}

/// Routes by event type: what a consumer knows about its service.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    route: fn(&str) -> Route,
    event_types: Option<&'static [&'static str]>,
    handlers: &'static [HandlerRoute],
}

/// The one route of a plain tower service.
pub(crate) const PLAIN: HandlerRoute = HandlerRoute {
    index: 0,
    name: "service",
    transactional: true,
    replay_safe: false,
    publishes: Publishes::Nothing,
    timeout: None,
    retry: None,
};

impl Routes {
    /// The routes of a table.
    pub(super) fn of<R: RouteTable>() -> Self {
        Self {
            route: R::route,
            event_types: R::EVENT_TYPES,
            handlers: R::HANDLERS,
        }
    }

    /// The routes of a plain tower service: it takes every event, with a transaction.
    pub(super) fn plain() -> Self {
        Self {
            route: |_| Route::Handler(PLAIN),
            event_types: None,
            handlers: &[PLAIN],
        }
    }

    /// All handlers, in the order of their places.
    pub fn handlers(&self) -> &'static [HandlerRoute] {
        self.handlers
    }

    /// What becomes of events of this type.
    pub fn route(&self, event_type: &str) -> Route {
        (self.route)(event_type)
    }

    /// The types that are known, handled or ignored; `None` is every type.
    pub fn event_types(&self) -> Option<&'static [&'static str]> {
        self.event_types
    }
}

/// A routing table; implemented by `#[router]`.
pub trait RouteTable: Send + Sync + 'static {
    /// The router's name.
    const NAME: &'static str;

    /// The types that the table names: of its handlers, in their order, and then those that it
    /// ignores.
    const NAMED_TYPES: &'static [&'static str];

    /// Whether there is a handler for every other type; it is the last of them.
    const FALLBACK: bool;

    /// The types that are handled or ignored; `None` is every type, by a fallback.
    const EVENT_TYPES: Option<&'static [&'static str]> = if Self::FALLBACK {
        None
    } else {
        Some(Self::NAMED_TYPES)
    };

    /// The handlers, the fallback among them.
    const HANDLERS: &'static [HandlerRoute];

    /// The place of this type among those that the table names.
    fn place(event_type: &str) -> Option<usize>;

    /// What becomes of events of this type.
    fn route(event_type: &str) -> Route {
        let (handlers, fallback) = match Self::HANDLERS.split_last() {
            Some((fallback, handlers)) if Self::FALLBACK => (handlers, Some(fallback)),
            _ => (Self::HANDLERS, None),
        };
        match Self::place(event_type) {
            Some(place) => handlers
                .get(place)
                .map_or(Route::Ignored, |route| Route::Handler(*route)),
            None => fallback.map_or(Route::Unknown, |route| Route::Handler(*route)),
        }
    }
}

/// The router says what to do with the event `E`: handle it, or ignore it.
#[diagnostic::on_unimplemented(
    message = "event `{E}` has no handler in router `{Self}`",
    label = "no handler for `{E}`",
    note = "add a handler that takes `{E}` to `handlers(…)`, or name `{E}` in `ignore(…)`"
)]
pub trait Handles<E> {
    /// [`HandlerAt`] the place of its handler, or [`Ignored`].
    type By;
}

/// The event is handled, by the handler at this place of the table.
#[derive(Debug)]
pub struct HandlerAt<const INDEX: usize>;

/// The event is ignored.
#[derive(Debug)]
pub struct Ignored;

/// The router calls a handler for the event `E`, so that a layer can go on it.
///
/// It does for every event that it [`Handles`] and does not ignore.
#[diagnostic::on_unimplemented(
    message = "router `{Self}` calls no handler for `{E}`",
    label = "not a handler of `{Self}`",
    note = "put the layer on a handler that `{Self}` names in `handlers(…)` or `fallback(…)`"
)]
pub trait Calls<E> {
    /// The handler's place in the router.
    const INDEX: usize;
}

#[diagnostic::do_not_recommend]
impl<R, E, const INDEX: usize> Calls<E> for R
where
    R: Handles<E, By = HandlerAt<INDEX>>,
{
    const INDEX: usize = INDEX;
}

/// Every event of the set is handled or ignored by the router `R`; implemented by
/// `#[derive(EventSet)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `EventSet`",
    label = "not an `EventSet`",
    note = "annotate the enum `{Self}` with `#[derive(EventSet)]`"
)]
pub trait CoveredBy<R> {}
