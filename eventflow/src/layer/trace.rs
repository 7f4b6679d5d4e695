//! Opens a span per delivery and tells how it ended.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::{delivery::Delivery, error::BoxError, inbox::Inbox};

/// Opens a span `handle` (level info) around each delivery, with `event_id`, `event_type`,
/// `aggregate_id`, `correlation_id` and `attempt`; never the payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

impl TraceLayer {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner }
    }
}

/// See [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct Trace<S> {
    inner: S,
}

impl<S, I> Service<Delivery<I>> for Trace<S>
where
    I: Inbox,
    S: Service<Delivery<I>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, delivery: Delivery<I>) -> Self::Future {
        let metadata = delivery.metadata();
        let span = tracing::info_span!(
            "handle",
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            aggregate_id = %metadata.aggregate_id,
            correlation_id = metadata.correlation_id,
            attempt = metadata.attempt,
        );
        let call = span.in_scope(|| self.inner.call(delivery));
        Box::pin(
            async move {
                let started = tokio::time::Instant::now();
                let result = call.await.map_err(Into::into);
                let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
                match &result {
                    Ok(_) => tracing::debug!(elapsed_ms, "handled"),
                    // As text, which is escaped: an error's words may be an event's.
                    Err(error) => {
                        tracing::debug!(elapsed_ms, error = error.to_string(), "failed");
                    }
                }
                result
            }
            .instrument(span),
        )
    }
}
