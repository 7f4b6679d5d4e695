//! Faults, one test for each row of the fault matrix: what happens, on real servers, when a
//! process, a server or the network between them fails.
//!
//! A test is named for its row, `k3_killed_after_commit_before_ack`; what holds for every row is
//! that each event has exactly one effect in the end, and nothing is left pending at the stream.

mod adoptions;
mod bloat;
mod cancelled;
mod clocks;
mod commits;
mod conflicts;
mod crash_loop;
mod deploys;
mod duplicates;
mod exhausted;
mod guarantees;
mod handlers;
mod housekeeping;
mod killed;
mod kit;
mod late;
mod messages;
mod pressure;
mod redis_away;
mod redis_forgets;
mod redis_refuses;
mod redis_shop;
mod sessions;
mod shared_pool;
mod shutdown;
mod silent;
mod sizes;
mod sqlite;
mod standby;
mod statements;

use std::{os::unix::process::ExitStatusExt, time::Duration};

use eventflow_tests::{
    eventually,
    shop::{Database, OnPostgres, Shop},
    worker::{Signal, Worker, WorkerConfig},
};
use sqlx::{Connection, PgConnection};

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

/// A session beside that has inserted one of the events and not committed: the INSERT of a batch
/// with this event waits for its end.
async fn holding_up(database: &impl OnPostgres, event_id: &str) -> PgConnection {
    let mut beside = PgConnection::connect(database.url()).await.unwrap();
    sqlx::query("BEGIN").execute(&mut beside).await.unwrap();
    sqlx::query(
        "INSERT INTO event_inbox
            (event_id, stream_id, event_type, aggregate_id, occurred_on, payload, consumer)
        VALUES ($1, '0-1', 'WorkRequested', gen_random_uuid(), now(), '{}', 'billing')",
    )
    .bind(event_id)
    .execute(&mut beside)
    .await
    .unwrap();
    beside
}

/// The server's processes whose INSERT is held up.
async fn held_up(database: &impl OnPostgres) -> Vec<String> {
    let waiting = "SELECT pid::text FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query LIKE '%INSERT INTO%'";
    database.texts(waiting).await
}

/// The connections of lost units are closed in the background. The server ends a session that is
/// left in a transaction after half a minute and more, which must not be waited for here.
async fn none_idle_in_transaction<D: Database>(shop: &Shop<D>) {
    eventually(Duration::from_secs(5), async || {
        let idle = shop.database.texts(D::IDLE_IN_TRANSACTION).await;
        idle.is_empty()
    })
    .await;
}
