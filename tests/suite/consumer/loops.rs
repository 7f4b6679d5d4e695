//! The consumer's loops: one that panics stops the consumer, since one that only looks alive would be
//! worse.

use std::time::Duration;

use eventflow_tests::{
    shop::Database,
    site::Site,
    work::WorkRequested,
    worker::{Worker, WorkerConfig},
};

on_every_database!(a_lease_loop_that_panics_stops_the_consumer_and_no_row_is_lost);

/// What runs is finished, and what waits is handed back at once: nothing waits for its lease.
async fn a_lease_loop_that_panics_stops_the_consumer_and_no_row_is_lost<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site
        .publish((0..3).map(|_| WorkRequested::taking(2_000)))
        .await;
    let config = WorkerConfig {
        workers: 1,
        lease: Duration::from_secs(3),
        ..site.worker()
    };

    let mut worker = Worker::start_to_fail(&config, "before_extend=panic");
    let status = worker.exit().await;

    let logs = worker.logs();
    assert!(!status.success(), "{status}:\n{logs}");
    let error = logs.lines().last().unwrap();
    assert!(error.starts_with("Error: Error { kind: Consumer"), "{logs}");
    assert!(
        error.contains("a task of the consumer ended early"),
        "{logs}"
    );
    assert!(error.contains("fail point `before_extend`"), "{logs}");
    let done = site.rows("processed").await;
    assert_eq!(site.effects().await, done, "{logs}");
    assert!(site.rows("processing").await.is_empty(), "{logs}");
    let _next = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
    assert_eq!(site.effects().await, ids);
    assert_eq!(site.column("retry_count").await, ["0"; 3]);
}
