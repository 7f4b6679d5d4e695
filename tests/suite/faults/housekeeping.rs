//! Row K8: a process dies while it migrates, or while it deletes what is done.

use std::time::Duration;

use eventflow::Inbox;
use eventflow_tests::{
    shop::Database,
    site::Site,
    work::WorkRequested,
    worker::{Job, Worker},
};

use super::dies_at;

on_every_database!(
    k8_killed_while_it_migrates,
    k8_killed_while_it_deletes_finished_rows,
);

async fn k8_killed_while_it_migrates<D: Database>() {
    let site = Site::<D>::without_inbox().await;
    let mut migrates = site.worker();
    migrates.job = Job::Migrate;

    dies_at("in_migration", &migrates).await;

    let schema = site.database.inbox().check_schema().await;
    assert!(schema.is_err(), "half a migration was kept");
    let mut again = [Worker::start(&migrates), Worker::start(&migrates)];
    for worker in &mut again {
        let status = worker.exit().await;
        assert!(status.success(), "{status}:\n{}", worker.logs());
    }
    let ids = site.publish([WorkRequested::taking(0)]).await;
    let _worker = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
}

async fn k8_killed_while_it_deletes_finished_rows<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site
        .publish((0..1_200).map(|_| WorkRequested::taking(0)))
        .await;
    let mut worker = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
    worker.stop().await;
    let mut deletes = site.worker();
    deletes.keep_processed = Duration::ZERO;

    dies_at("in_retention", &deletes).await;

    assert_eq!(site.rows("processed").await.len(), 200, "one batch is gone");
    let mut other = Worker::start(&deletes);
    site.await_rows("processed", &[]).await;
    let report = other.stop().await;
    assert_eq!(report.count("purged"), 200, "{report:?}");
    assert_eq!(site.effects().await, ids);
}
