//! One handler's call.

use std::{future::ready, pin::pin, sync::Arc};

use tower::ServiceExt;

use super::{Handled, ResponseFuture, RouteTable};
use crate::{
    delivery::{Delivery, Transaction},
    handler::{Failure, Handle, Publishes},
    inbox::Inbox,
    layer::{retry::RetryPolicy, timeout::within},
};

/// Runs one handler: its immediate retries around its timeout around the call.
///
/// Each handler's future is boxed by itself, so that an event takes no more memory than its own
/// handler needs.
pub(super) fn run<H, I, S, R>(delivery: Delivery<I>, state: Arc<S>) -> ResponseFuture<R>
where
    H: Handle<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
    R: 'static,
{
    let Some(retry) = H::RETRY else {
        return Box::pin(call_once::<H, I, S, R>(delivery, state));
    };
    let call = tower::service_fn(move |delivery: Delivery<I>| {
        call_once::<H, I, S, R>(delivery, Arc::clone(&state))
    });
    let calls = tower::retry::Retry::new(RetryPolicy::new(retry), call);
    Box::pin(calls.oneshot(delivery))
}

/// Waiting for the transaction does not use up the handler's time.
async fn call_once<H, I, S, R>(delivery: Delivery<I>, state: Arc<S>) -> Result<Handled<R>, Failure>
where
    H: Handle<I, S>,
    I: Inbox,
{
    let after = H::TIMEOUT.unwrap_or_else(|| delivery.handler_timeout());
    let mut transaction = if H::TRANSACTIONAL {
        delivery.start_call().await?
    } else {
        Transaction::none()
    };
    if let Publishes::Only(event_types) = H::PUBLISHES {
        transaction.outbox()?.declare(H::NAME, event_types);
    }
    // Dropped as it is if it is cut: what the handler was doing may still run at the server.
    let result = within(after, pin!(H::handle(&delivery, &state, &mut transaction)))
        .await
        .map_err(Failure::retry)?;
    transaction.end_call(result.is_ok());
    result.map(|()| Handled::new())
}

/// The router was told to ignore the event.
pub(super) fn ignored<R: 'static>() -> ResponseFuture<R> {
    Box::pin(ready(Ok(Handled::new())))
}

/// The router does not know the event's type.
pub(super) fn unknown<R: RouteTable, I: Inbox>(delivery: &Delivery<I>) -> ResponseFuture<R> {
    let event_type = &delivery.metadata().event_type;
    Box::pin(ready(Err(Failure::dead_letter(format!(
        "router `{}` has no handler for events of type `{event_type}`",
        R::NAME
    )))))
}
