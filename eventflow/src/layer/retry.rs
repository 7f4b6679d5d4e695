//! Repeats a failed call at once: the policy of `#[handler(retry(…))]` for [`tower::retry`].

use tokio::time::Sleep;
use tower::retry::Policy;

use crate::{
    delivery::Delivery,
    handler::{Failure, FailureKind, ImmediateRetry},
    inbox::{Inbox, UnitLost},
    layer::timeout::is_timeout,
};

/// Repeats a call that failed with [`FailureKind::Retry`], from a clean savepoint.
///
/// Not repeated: what was cut for time, since the transaction has been open long enough; what lost
/// the transaction, since there is none to repeat it in; and errors of the infrastructure, which
/// the whole unit is run again for.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    retry: ImmediateRetry,
    calls: u32,
}

impl RetryPolicy {
    pub(crate) const fn new(retry: ImmediateRetry) -> Self {
        Self { retry, calls: 1 }
    }
}

impl<I: Inbox, T> Policy<Delivery<I>, T, Failure> for RetryPolicy {
    type Future = Sleep;

    fn retry(
        &mut self,
        delivery: &mut Delivery<I>,
        result: &mut Result<T, Failure>,
    ) -> Option<Sleep> {
        let failure = result.as_ref().err()?;
        let repeatable = failure.kind() == FailureKind::Retry
            && !is_timeout(failure)
            && failure.find::<UnitLost>().is_none()
            && failure.infrastructure().is_none();
        if !repeatable || self.calls >= self.retry.attempts {
            return None;
        }
        self.calls += 1;
        let metadata = delivery.metadata();
        tracing::debug!(
            event_id = metadata.event_id,
            event_type = metadata.event_type,
            call = self.calls,
            error = failure.to_string(),
            "repeating the call"
        );
        Some(tokio::time::sleep(self.retry.backoff))
    }

    fn clone_request(&mut self, delivery: &Delivery<I>) -> Option<Delivery<I>> {
        Some(delivery.clone())
    }
}
