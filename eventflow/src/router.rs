//! The routing table as a tower service: which handler runs for which event.
//!
//! `#[router]` generates the table; this module is what it generates against. When an event runs,
//! and in which transaction, is [`consumer`](crate::consumer)'s part.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    delivery::Delivery,
    error::BoxError,
    handler::{Failure, Handle, Handler, HandlerInput},
    inbox::Inbox,
    layer::{retry::RetryPolicy, timeout::Timeout},
};

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

impl Route {
    /// The route to the handler at this place of a table. Called by generated code.
    #[doc(hidden)]
    pub fn at<R: RouteTable>(index: usize) -> Self {
        R::HANDLERS
            .get(index)
            .map_or(Self::Unknown, |route| Self::Handler(*route))
    }
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
    /// After which time one call is cut; `None` takes the consumer's.
    pub timeout: Option<Duration>,
    /// Calls within one attempt, and the time between two.
    pub calls: (u32, Duration),
}

impl HandlerRoute {
    /// The route of a handler. Called by generated code.
    #[doc(hidden)]
    pub const fn of<H: Handler>(index: usize) -> Self {
        Self {
            index,
            name: H::NAME,
            transactional: H::TRANSACTIONAL,
            timeout: H::TIMEOUT,
            calls: match H::RETRY {
                Some(retry) => (retry.attempts, retry.backoff),
                None => (1, Duration::ZERO),
            },
        }
    }

    /// The longest time that one attempt may take, all its calls counted.
    pub(crate) fn longest(&self, default_timeout: Duration) -> Duration {
        let (calls, backoff) = self.calls;
        (self.timeout.unwrap_or(default_timeout) + backoff).saturating_mul(calls.max(1))
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
    timeout: None,
    calls: (1, Duration::ZERO),
};

impl Routes {
    /// The routes of a table.
    fn of<R: RouteTable>() -> Self {
        Self {
            route: R::route,
            event_types: R::EVENT_TYPES,
            handlers: R::HANDLERS,
        }
    }

    /// The routes of a plain tower service: it takes every event, with a transaction.
    fn plain() -> Self {
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

    /// The types that are handled or ignored; `None` is every type, by a fallback.
    const EVENT_TYPES: Option<&'static [&'static str]>;

    /// The handlers, the fallback among them.
    const HANDLERS: &'static [HandlerRoute];

    /// What becomes of events of this type.
    fn route(event_type: &str) -> Route;
}

/// The table's handlers can run over the inbox `I` with the state `S`; implemented by
/// `#[router]`.
pub trait Dispatch<I: Inbox, S>: RouteTable {
    /// Runs the handler of the delivery's event type.
    fn dispatch(
        delivery: Delivery<I>,
        state: Arc<S>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The router says what to do with the event `E`: handle it, or ignore it.
#[diagnostic::on_unimplemented(
    message = "event `{E}` has no handler in router `{Self}`",
    label = "no handler for `{E}`",
    note = "add a handler that takes `{E}` to `handlers(…)`, or name `{E}` in `ignore(…)`"
)]
pub trait Handles<E> {
    /// The place of the handler; `None` if the event is ignored.
    const HANDLER: Option<usize>;
}

/// Every event of the set is handled or ignored by the router `R`; implemented by
/// `#[derive(EventSet)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `EventSet`",
    label = "not an `EventSet`",
    note = "annotate the enum `{Self}` with `#[derive(EventSet)]`"
)]
pub trait CoveredBy<R> {}

/// What a service answers for an event that it handled, and what is known of its routes.
///
/// A router answers [`Handled`], which tells its routes through any number of layers; a plain
/// tower service answers `()`, takes every event, and counts as transactional.
#[diagnostic::on_unimplemented(
    message = "a consumer cannot run a service that answers `{Self}`",
    label = "this service answers `{Self}`",
    note = "the service of a consumer is a router, or answers `()`"
)]
pub trait Reply {
    /// The routes of the service.
    fn routes() -> Routes;
}

impl Reply for () {
    fn routes() -> Routes {
        Routes::plain()
    }
}

/// The router `R` has handled the event, or ignored it.
pub struct Handled<R> {
    table: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Handled<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handled")
    }
}

impl<R: RouteTable> Reply for Handled<R> {
    fn routes() -> Routes {
        Routes::of::<R>()
    }
}

/// A routing table with its state: a [`tower::Service`] of deliveries.
///
/// Made by `Orders::new(state)` or `Orders::builder(state)`, where `Orders` is annotated with
/// `#[router]`.
pub struct Router<R, I: Inbox, S> {
    state: Arc<S>,
    layered: Vec<(usize, HandlerService<I>)>,
    table: PhantomData<fn() -> R>,
}

/// One handler of a router as a service of its own, to put layers on.
pub type HandlerService<I> = BoxCloneSyncService<Delivery<I>, (), BoxError>;

impl<R: RouteTable, I: Inbox, S> Router<R, I, S> {
    /// A router with this state.
    pub fn new(state: S) -> Self {
        Self {
            state: Arc::new(state),
            layered: Vec::new(),
            table: PhantomData,
        }
    }

    /// A router with this state, to put layers on single handlers.
    pub fn builder(state: S) -> RouterBuilder<R, I, S> {
        RouterBuilder {
            router: Self::new(state),
        }
    }
}

impl<R, I: Inbox, S> Clone for Router<R, I, S> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            layered: self.layered.clone(),
            table: PhantomData,
        }
    }
}

impl<R: RouteTable, I: Inbox, S> fmt::Debug for Router<R, I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("table", &R::NAME)
            .finish_non_exhaustive()
    }
}

/// Ready when every layered handler is: which event comes next is not known yet.
impl<R, I, S> Service<Delivery<I>> for Router<R, I, S>
where
    R: Dispatch<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    type Response = Handled<R>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Handled<R>, Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        for (_, service) in &mut self.layered {
            std::task::ready!(service.poll_ready(cx)).map_err(Failure::from_service)?;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery<I>) -> Self::Future {
        let handled = Handled { table: PhantomData };
        if let Some(service) = self.layered_service(&delivery) {
            let answer = service.call(delivery);
            return Box::pin(async move {
                answer.await.map_err(Failure::from_service)?;
                Ok(handled)
            });
        }
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            R::dispatch(delivery, state).await?;
            Ok(handled)
        })
    }
}

impl<R: RouteTable, I: Inbox, S> Router<R, I, S> {
    fn layered_service(&mut self, delivery: &Delivery<I>) -> Option<&mut HandlerService<I>> {
        if self.layered.is_empty() {
            return None;
        }
        let Route::Handler(HandlerRoute { index, .. }) = R::route(&delivery.metadata().event_type)
        else {
            return None;
        };
        self.layered
            .iter_mut()
            .find_map(|(layered, service)| (*layered == index).then_some(service))
    }
}

/// Puts layers on single handlers of a router.
#[must_use = "call `build` to get the router"]
pub struct RouterBuilder<R, I: Inbox, S> {
    router: Router<R, I, S>,
}

impl<R, I, S> RouterBuilder<R, I, S>
where
    R: Dispatch<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    /// Puts a layer on one handler, named by its function. It sees the handler's whole attempt:
    /// its immediate retries and its timeout are inside.
    ///
    /// A second layer on the same handler goes outside the first. The router is ready when all its
    /// layered handlers are.
    pub fn layer<F, Args, L>(mut self, _handler: F, layer: L) -> Self
    where
        F: HandlerFn<Args>,
        R: Handles<F::Event>,
        L: Layer<HandlerService<I>>,
        L::Service: Service<Delivery<I>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery<I>>>::Error: Into<BoxError>,
        <L::Service as Service<Delivery<I>>>::Future: Send + 'static,
    {
        let Some(index) = <R as Handles<F::Event>>::HANDLER else {
            return self;
        };
        let inner = self.take_service(index);
        let service = layer
            .layer(inner)
            .map_response(drop)
            .map_err(Into::<BoxError>::into);
        self.router
            .layered
            .push((index, BoxCloneSyncService::new(service)));
        self
    }

    /// The router.
    pub fn build(self) -> Router<R, I, S> {
        self.router
    }

    fn take_service(&mut self, index: usize) -> HandlerService<I> {
        let layered = &mut self.router.layered;
        if let Some(place) = layered.iter().position(|(layered, _)| *layered == index) {
            return layered.swap_remove(place).1;
        }
        let state = Arc::clone(&self.router.state);
        BoxCloneSyncService::new(tower::service_fn(move |delivery| {
            let state = Arc::clone(&state);
            async move { R::dispatch(delivery, state).await.map_err(BoxError::from) }
        }))
    }
}

impl<R: RouteTable, I: Inbox, S> fmt::Debug for RouterBuilder<R, I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterBuilder")
            .field("router", &self.router)
            .finish()
    }
}

/// A handler's function, by the types of its parameters: tells the router which event it takes.
pub trait HandlerFn<Args> {
    /// The type of the first parameter.
    type Event: HandlerInput;
}

macro_rules! impl_handler_fn {
    ($($param:ident)*) => {
        impl<F, Answer, E, $($param),*> HandlerFn<(E, $($param,)*)> for F
        where
            F: Fn(E, $($param),*) -> Answer,
            E: HandlerInput,
        {
            type Event = E;
        }
    };
}

impl_handler_fn!();
impl_handler_fn!(A);
impl_handler_fn!(A B);
impl_handler_fn!(A B C);
impl_handler_fn!(A B C D);
impl_handler_fn!(A B C D G);
impl_handler_fn!(A B C D G H);
impl_handler_fn!(A B C D G H J);
impl_handler_fn!(A B C D G H J K);

/// Runs one handler: its immediate retries around its timeout around the call. Called by generated
/// code.
///
/// # Errors
/// What the handler answered, or that it was cut.
#[doc(hidden)]
pub async fn run<H, I, S>(delivery: Delivery<I>, state: Arc<S>) -> Result<(), Failure>
where
    H: Handle<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    let timeout = H::TIMEOUT.unwrap_or_else(|| delivery.handler_timeout());
    let call = tower::service_fn(move |delivery: Delivery<I>| {
        let state = Arc::clone(&state);
        async move { call_once::<H, I, S>(&delivery, &state).await }
    });
    let service = Timeout::new(call, timeout);
    match H::RETRY {
        Some(retry) => {
            tower::retry::Retry::new(RetryPolicy::new(retry), service)
                .oneshot(delivery)
                .await
        }
        None => service.oneshot(delivery).await,
    }
}

async fn call_once<H, I, S>(delivery: &Delivery<I>, state: &S) -> Result<(), Failure>
where
    H: Handle<I, S>,
    I: Inbox,
{
    let mut transaction = delivery.start_call(H::TRANSACTIONAL).await?;
    let result = H::handle(delivery, state, &mut transaction).await;
    transaction.end_call(result.is_ok());
    result
}

/// The router does not know the event's type. Called by generated code.
#[doc(hidden)]
pub fn unknown<I: Inbox>(router: &str, delivery: &Delivery<I>) -> Failure {
    let event_type = &delivery.metadata().event_type;
    Failure::dead_letter(format!(
        "router `{router}` has no handler for events of type `{event_type}`"
    ))
}
