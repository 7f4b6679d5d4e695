//! Waiting for a condition instead of sleeping.

use std::time::Duration;

/// Waits until a condition holds; fails the test if it does not within `deadline`.
#[track_caller]
pub fn eventually<F>(deadline: Duration, condition: F) -> impl Future<Output = ()>
where
    F: AsyncFn() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let held = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            tokio::time::timeout(deadline, held).await.is_ok(),
            "the condition at {caller} did not hold within {deadline:?}"
        );
    }
}
