//! Faults, one test for each row of the fault matrix: what happens, on real servers, when a
//! process, a server or the network between them fails.
//!
//! A test is named for its row, `k3_killed_after_commit_before_ack`; what holds for every row is
//! that each event has exactly one effect in the end, and nothing is left pending at the stream.

mod clocks;
mod crash_loop;
mod deploys;
mod duplicates;
mod handlers;
mod housekeeping;
mod killed;
mod kit;
mod late;
mod messages;
mod redis_away;
mod redis_forgets;
mod redis_refuses;
mod redis_shop;
mod shutdown;
mod sizes;

use std::{os::unix::process::ExitStatusExt, time::Duration};

use eventflow_tests::worker::{Signal, Worker, WorkerConfig};

const DEADLINE: Duration = Duration::from_mins(1);

/// Runs a worker until it dies at a fail point: no destructor runs, no connection is closed by it.
async fn dies_at(point: &str, config: &WorkerConfig) {
    let mut worker = Worker::start_to_fail(config, &format!("{point}=abort"));
    let status = worker.exit().await;
    assert_eq!(
        status.signal(),
        Some(Signal::ABORT.as_raw()),
        "{status}:\n{}",
        worker.logs()
    );
}
