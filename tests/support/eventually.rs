//! Waiting for a condition instead of sleeping, and seeing that one stays.

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

/// Looks at a condition all through `time`; fails the test if it does not hold at one look.
///
/// For what must not happen, which no condition can be awaited for.
#[track_caller]
pub fn always<F>(time: Duration, condition: F) -> impl Future<Output = ()>
where
    F: AsyncFn() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let held = async {
            while condition().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(
            tokio::time::timeout(time, held).await.is_err(),
            "the condition at {caller} did not hold all through {time:?}"
        );
    }
}
