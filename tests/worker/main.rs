//! A worker process for tests that kill it: `worker REDIS_URL POSTGRES_URL GROUP LEASE_MS`.
//!
//! Runs until its standard input ends.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a worker that cannot start should fail its test"
)]

use std::time::Duration;

use eventflow::prelude::*;
use eventflow_tests::work::{Work, WorkState};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> eventflow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [redis, postgres, group, lease] = arguments.as_slice() else {
        panic!("usage: worker REDIS_URL POSTGRES_URL GROUP LEASE_MS");
    };
    let lease = Duration::from_millis(lease.parse().expect("the lease is a number"));
    let inbox = PgInbox::connect(postgres).await?;
    let stream = RedisStream::builder(redis)
        .stream("work")
        .group(group)
        .connect()
        .await?;
    let state = WorkState {
        name: format!("worker-{}", std::process::id()),
        ..WorkState::default()
    };

    Consumer::builder(stream, inbox, Work::new(state))
        .lease(lease)
        .claim_idle(lease)
        .poll_interval(Duration::from_millis(50))
        .build()?
        .run_until(async {
            let mut rest = Vec::new();
            tokio::io::stdin().read_to_end(&mut rest).await
        })
        .await?;
    Ok(())
}
