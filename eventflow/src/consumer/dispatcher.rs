//! The consumer's one layered service, shared by all its workers.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::Mutex, task::coop::unconstrained, time::timeout};
use tower::{Layer, Service, ServiceExt, util::BoxService};

use crate::{
    delivery::Delivery,
    error::BoxError,
    handler::Publishes,
    inbox::Inbox,
    layer::CatchPanicLayer,
    router::{PLAIN, Route, Routes},
};

/// What a layer may take on top of the handler's own time before the whole delivery is cut.
const SLACK_FOR_LAYERS: Duration = Duration::from_secs(30);

/// Who has the service for longer than this does not call it, but waits until it is ready. A transaction
/// may be open for that long: to end it costs more.
const MOMENT: Duration = Duration::from_millis(10);

/// A call that has started: run it outside the lock.
pub(super) type Call = BoxFuture<'static, Result<(), BoxError>>;

/// Holds one service: `poll_ready` and `call` happen under a lock, the call's future runs outside.
///
/// So a service needs no `Clone`, and a limit is the consumer's, not each worker's.
pub(super) struct Dispatcher<I: Inbox> {
    service: Mutex<BoxService<Delivery<I>, (), BoxError>>,
    routes: Routes,
    handler_timeout: Duration,
}

impl<I: Inbox> Dispatcher<I> {
    pub(super) fn new<S>(service: S, routes: Routes, handler_timeout: Duration) -> Self
    where
        S: Service<Delivery<I>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let service = CatchPanicLayer::new().layer(service).map_response(drop);
        Self {
            service: Mutex::new(BoxService::new(service)),
            routes,
            handler_timeout,
        }
    }

    pub(super) fn routes(&self) -> Routes {
        self.routes
    }

    /// The handler of an event, for logs; empty if there is none.
    pub(super) fn handler(&self, event_type: &str) -> &'static str {
        match self.routes.route(event_type) {
            Route::Handler(route) => route.name,
            Route::Ignored | Route::Unknown => "",
        }
    }

    /// Whether any handler takes the outbox.
    pub(super) fn publishes(&self) -> bool {
        let mut handlers = self.routes.handlers().iter();
        handlers.any(|route| route.publishes != Publishes::Nothing)
    }

    /// The longest that any handler may hold a transaction.
    pub(super) fn longest_handler(&self) -> Duration {
        let handlers = self.routes.handlers().iter();
        handlers
            .map(|route| route.longest(self.handler_timeout) + SLACK_FOR_LAYERS)
            .max()
            .unwrap_or(self.handler_timeout)
    }

    /// How long a delivery's handler may take, its immediate retries included.
    pub(super) fn limit(&self, event_type: &str) -> Duration {
        match self.routes.route(event_type) {
            Route::Handler(route) => route.longest(self.handler_timeout),
            Route::Ignored | Route::Unknown => self.handler_timeout,
        }
    }

    /// After which time a whole delivery is cut, layers and immediate retries included.
    pub(super) fn deadline(&self, event_type: &str) -> Duration {
        match self.routes.route(event_type) {
            // Nothing inside cuts a plain service.
            Route::Handler(route) if route == PLAIN => self.handler_timeout,
            Route::Handler(route) => route.longest(self.handler_timeout) + SLACK_FOR_LAYERS,
            Route::Ignored | Route::Unknown => self.handler_timeout,
        }
    }

    /// Calls the service if it is ready at this moment; `None` if it is not.
    pub(super) async fn call_if_ready(
        &self,
        delivery: Delivery<I>,
    ) -> Option<Result<Call, BoxError>> {
        let service = timeout(MOMENT, self.service.lock());
        let mut service = service.await.ok()?;
        // It is not unready because the task has used up its turn.
        let mut ready = unconstrained(poll_fn(|cx| service.poll_ready(cx)));
        match ready.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Some(Ok(service.call(delivery))),
            Poll::Ready(Err(error)) => Some(Err(error)),
            Poll::Pending => None,
        }
    }

    /// Waits until the service is ready and calls it. Not while a transaction is open.
    pub(super) async fn call(&self, delivery: Delivery<I>) -> Result<Call, BoxError> {
        let mut service = self.service.lock().await;
        poll_fn(|cx| service.poll_ready(cx)).await?;
        Ok(service.call(delivery))
    }
}
