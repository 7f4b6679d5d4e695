//! One handler's call.

use std::sync::Arc;

use tower::ServiceExt;

use crate::{
    delivery::Delivery,
    handler::{Failure, Handle},
    inbox::Inbox,
    layer::{retry::RetryPolicy, timeout::TimedOut},
};

/// Runs one handler: its immediate retries around its timeout around the call.
///
/// # Errors
/// What the handler answered, or that it was cut.
pub(super) async fn run<H, I, S>(delivery: Delivery<I>, state: Arc<S>) -> Result<(), Failure>
where
    H: Handle<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    let Some(retry) = H::RETRY else {
        return call_once::<H, I, S>(&delivery, &state).await;
    };
    let call = tower::service_fn(move |delivery: Delivery<I>| {
        let state = Arc::clone(&state);
        async move { call_once::<H, I, S>(&delivery, &state).await }
    });
    tower::retry::Retry::new(RetryPolicy::new(retry), call)
        .oneshot(delivery)
        .await
}

/// The time begins when the handler does: waiting for the transaction does not use it up.
async fn call_once<H, I, S>(delivery: &Delivery<I>, state: &S) -> Result<(), Failure>
where
    H: Handle<I, S>,
    I: Inbox,
{
    let after = H::TIMEOUT.unwrap_or_else(|| delivery.handler_timeout());
    let mut transaction = delivery.start_call(H::TRANSACTIONAL).await?;
    let handling = H::handle(delivery, state, &mut transaction);
    let Ok(result) = tokio::time::timeout(after, handling).await else {
        // Dropped as it is: what the handler was doing may still run at the server.
        return Err(Failure::retry(TimedOut::new(after)));
    };
    transaction.end_call(result.is_ok());
    result
}

/// The router does not know the event's type.
pub(super) fn unknown<I: Inbox>(router: &str, delivery: &Delivery<I>) -> Failure {
    let event_type = &delivery.metadata().event_type;
    Failure::dead_letter(format!(
        "router `{router}` has no handler for events of type `{event_type}`"
    ))
}
