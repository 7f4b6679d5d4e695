use std::time::Duration;

use eventflow::{handler::Handler, prelude::*};

#[derive(Event)]
struct OrderCreated;

#[handler(timeout = "2m", retry(attempts = 2, backoff = "1s"))]
async fn both(_event: OrderCreated) {}

#[handler(retry(attempts = 1),)]
async fn one(_event: OrderCreated) {}

#[handler(replay_safe)]
async fn replay_safe(_event: OrderCreated) {}

#[handler()]
async fn none(_event: OrderCreated) {}

#[handler]
#[cfg(any())]
async fn not_compiled(_event: DoesNotExist) {}

fn main() {
    assert_eq!(both::TIMEOUT, Some(Duration::from_secs(120)));
    let retry = both::RETRY.unwrap();
    assert_eq!((retry.attempts, retry.backoff), (2, Duration::from_secs(1)));

    let retry = one::RETRY.unwrap();
    assert_eq!((retry.attempts, retry.backoff), (1, Duration::from_millis(10)));

    const { assert!(replay_safe::REPLAY_SAFE && !none::REPLAY_SAFE) }
    assert_eq!(none::TIMEOUT, None);
    assert_eq!(none::RETRY, None);
}
