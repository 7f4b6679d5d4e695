//! The router: a table with its state, as a service of deliveries.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::Service;

use super::{Handled, HandlerRoute, HandlerService, Route, RouteTable, RouterBuilder, ready};
use crate::{delivery::Delivery, handler::Failure, inbox::Inbox};

/// The table's handlers can run over the inbox `I` with the state `S`; implemented by
/// `#[router]`.
pub trait Dispatch<I: Inbox, S>: RouteTable + Sized {
    /// Runs the handler of the delivery's event type.
    fn dispatch(delivery: Delivery<I>, state: Arc<S>) -> ResponseFuture<Self>;
}

/// An inbox that every handler of the router `R` can run over, with the state `S`: the same as
/// [`Dispatch`], asked of the inbox.
///
/// So it is asked once the inbox is known, and neither inbox nor state are guessed from what the
/// handlers take.
pub trait Runs<R, S>: Inbox {
    /// Runs the handler of the delivery's event type.
    fn run(delivery: Delivery<Self>, state: Arc<S>) -> ResponseFuture<R>;
}

impl<R, I, S> Runs<R, S> for I
where
    R: Dispatch<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    fn run(delivery: Delivery<I>, state: Arc<S>) -> ResponseFuture<R> {
        R::dispatch(delivery, state)
    }
}

/// What a router answers, some time.
pub type ResponseFuture<R> = BoxFuture<'static, Result<Handled<R>, Failure>>;

/// A routing table with its state: a [`tower::Service`] of deliveries.
///
/// Made by `Orders::new(state)` or `Orders::builder(state)`, where `Orders` is annotated with
/// `#[router]`.
pub struct Router<R, I: Inbox, S> {
    pub(super) state: Arc<S>,
    /// Runs a handler without layers. It is taken where the router is made, so that a handler that
    /// cannot run on the inbox is reported there, and nowhere again.
    pub(super) run: fn(Delivery<I>, Arc<S>) -> ResponseFuture<R>,
    /// The handlers with layers, by their places.
    pub(super) layered: Vec<(usize, HandlerService<I>)>,
}

impl<R, I, S> Router<R, I, S>
where
    R: RouteTable,
    I: Runs<R, S>,
    S: Send + Sync + 'static,
{
    /// A router with this state.
    pub fn new(state: S) -> Self {
        Self {
            state: Arc::new(state),
            run: I::run,
            layered: Vec::new(),
        }
    }

    /// A router with this state, to put layers on single handlers.
    pub fn builder(state: S) -> RouterBuilder<R, I, S> {
        RouterBuilder::new(Self::new(state))
    }
}

impl<R, I: Inbox, S> Clone for Router<R, I, S> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            run: self.run,
            layered: self.layered.clone(),
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

/// Always ready: which event comes next is not known yet. A call waits for the layers of its own
/// handler, before it asks for the transaction.
impl<R, I, S> Service<Delivery<I>> for Router<R, I, S>
where
    R: RouteTable,
    I: Inbox,
{
    type Response = Handled<R>;
    type Error = Failure;
    type Future = ResponseFuture<R>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery<I>) -> Self::Future {
        if let Some(service) = self.layered_service(&delivery) {
            let call = ready::call(service.clone(), delivery);
            return Box::pin(async move {
                call.await?;
                Ok(Handled::new())
            });
        }
        (self.run)(delivery, Arc::clone(&self.state))
    }
}

impl<R: RouteTable, I: Inbox, S> Router<R, I, S> {
    fn layered_service(&self, delivery: &Delivery<I>) -> Option<&HandlerService<I>> {
        if self.layered.is_empty() {
            return None;
        }
        let Route::Handler(HandlerRoute { index, .. }) = R::route(&delivery.metadata().event_type)
        else {
            return None;
        };
        self.layered
            .iter()
            .find_map(|(layered, service)| (*layered == index).then_some(service))
    }
}
