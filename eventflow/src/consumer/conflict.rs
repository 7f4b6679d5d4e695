//! Conflicts of our own statements with those of others: they pass, so what met one is asked again.
//!
//! A unit of work that meets one runs again: that is [`unit`](super::unit)'s part.

use std::time::Duration;

use crate::{
    database::error::infrastructure_in_answer,
    error::{Error, Result},
    handler::failure::links,
    inbox::LossKind,
};

/// How often the same is asked again.
const REPEATS: u32 = 5;

/// Asks the inbox, and a few times more while the answer is a conflict.
pub(super) async fn despite_conflicts<T, F>(ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for _ in 0..REPEATS {
        match ask().await {
            Err(error) if is_conflict(&error) => {
                // At random, so that those who met do not meet again.
                let pause = Duration::from_millis(fastrand::u64(5..50));
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

fn is_conflict(error: &Error) -> bool {
    links(error).find_map(infrastructure_in_answer) == Some(LossKind::Conflict)
}
