//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// No condition of a test takes as long as this.
pub const DEADLINE: Duration = Duration::from_secs(20);

const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until the condition holds; fails the test if it does not within the deadline.
#[track_caller]
pub fn eventually<F, Holds>(what: &'static str, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Holds,
    Holds: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + DEADLINE;
        while !condition().await {
            assert!(Instant::now() < end, "{caller}: still not so: {what}");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// Waits for an answer; fails the test if none comes within the deadline.
#[track_caller]
pub fn within_deadline<F: Future>(
    what: &'static str,
    answer: F,
) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(answer) => answer,
            Err(_) => panic!("{caller}: still waiting for {what}"),
        }
    }
}
