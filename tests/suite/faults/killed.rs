//! Rows K: a worker process that dies, wherever it is.

use std::time::Duration;

use eventflow_tests::{
    eventually, shop::Database, site::Site, work::WorkRequested, worker::Worker,
};

const DEADLINE: Duration = Duration::from_mins(1);

on_every_database!(another_worker_finishes_what_a_killed_one_had_begun);

async fn another_worker_finishes_what_a_killed_one_had_begun<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site
        .publish((0..400).map(|_| WorkRequested::taking(10)))
        .await;

    let mut first = Worker::start(&site.worker());
    eventually(DEADLINE, async || !site.effects().await.is_empty()).await;
    first.kill();
    let before = site.effects().await.len();
    assert!(before < 400, "the worker was to be killed in the middle");

    let _second = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;

    assert_eq!(site.effects().await, ids);
    site.await_acknowledged("billing").await;
}
