//! Turns a panic of the inner service into a failure.

use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use tower::{Layer, Service};

use crate::{error::BoxError, handler::Failure};

/// Catches panics of the inner service.
///
/// A panic counts as a failed attempt, as an error does. Does nothing in programs that are built
/// with `panic = "abort"`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanicLayer;

impl CatchPanicLayer {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// See [`CatchPanicLayer`].
#[derive(Debug, Clone)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, Request> Service<Request> for CatchPanic<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let inner = &mut self.inner;
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll_ready(cx))) {
            Ok(ready) => ready.map_err(Into::into),
            Err(payload) => Poll::Ready(Err(Panicked::failure(payload.as_ref()))),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = &mut self.inner;
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.call(request))) {
            Ok(call) => Box::pin(async move {
                match AssertUnwindSafe(call).catch_unwind().await {
                    Ok(result) => result.map_err(Into::into),
                    Err(payload) => Err(Panicked::failure(payload.as_ref())),
                }
            }),
            Err(payload) => {
                let failure = Panicked::failure(payload.as_ref());
                Box::pin(async move { Err(failure) })
            }
        }
    }
}

/// A handler panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    fn failure(payload: &(dyn Any + Send)) -> BoxError {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "with a payload that is no text".to_owned());
        Failure::retry(Self { message }).into()
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler panicked: {}", self.message)
    }
}

impl std::error::Error for Panicked {}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn message_of<F>(call: fn(()) -> F) -> String
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let service = CatchPanicLayer::new().layer(service_fn(call));
        service.oneshot(()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_panic_while_polled_is_a_failure_with_its_text() {
        let message = message_of(|()| async { panic!("no {}", "stock") }).await;

        assert_eq!(message, "the handler panicked: no stock");
    }

    #[tokio::test]
    async fn a_panic_in_call_is_a_failure() {
        let message = message_of(|()| -> std::future::Ready<_> { panic!("at once") }).await;

        assert_eq!(message, "the handler panicked: at once");
    }

    #[tokio::test]
    async fn a_panic_without_text_is_a_failure() {
        let message = message_of(|()| async { std::panic::panic_any(7) }).await;

        assert_eq!(
            message,
            "the handler panicked: with a payload that is no text"
        );
    }
}
