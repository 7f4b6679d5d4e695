//! Cuts a call that takes too long, with an error that says so.
//!
//! The router's own; for a service of one's own take [`tower::timeout`], which the consumer
//! understands as well.

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::handler::Failure;

/// Cuts calls of the inner service after a time.
///
/// A call that never yields cannot be cut: only what awaits can.
#[derive(Debug, Clone)]
pub(crate) struct Timeout<S> {
    inner: S,
    after: Duration,
}

impl<S> Timeout<S> {
    pub(crate) const fn new(inner: S, after: Duration) -> Self {
        Self { inner, after }
    }
}

impl<S, Request> Service<Request> for Timeout<S>
where
    S: Service<Request, Error = Failure>,
    S::Response: Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<S::Response, Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let after = self.after;
        let call = self.inner.call(request);
        Box::pin(async move {
            tokio::time::timeout(after, call)
                .await
                .unwrap_or_else(|_| Err(Failure::retry(TimedOut { after })))
        })
    }
}

/// A call was cut: it took longer than its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    after: Duration,
}

impl TimedOut {
    pub(crate) const fn new(after: Duration) -> Self {
        Self { after }
    }

    /// The timeout.
    pub fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out after {:?}", self.after)
    }
}

impl std::error::Error for TimedOut {}

/// Whether a failure is a call that was cut for time.
pub(crate) fn is_timeout(failure: &Failure) -> bool {
    failure.error().is::<TimedOut>() || failure.error().is::<tower::timeout::error::Elapsed>()
}
