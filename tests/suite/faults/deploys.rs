//! Row G3: old and new versions of a service run side by side.

use eventflow::inbox::Inbox;
use eventflow_tests::{
    shop::Database,
    site::Site,
    work::{WorkCancelled, WorkRequested},
    worker::{Job, Version, Worker, WorkerConfig},
};
use uuid::Uuid;

on_every_database!(
    g3_an_old_worker_leaves_what_only_the_new_one_knows,
    g3_an_old_worker_runs_on_a_newer_table,
);

fn cancelled() -> WorkCancelled {
    WorkCancelled {
        work_id: Uuid::now_v7(),
    }
}

async fn g3_an_old_worker_leaves_what_only_the_new_one_knows<D: Database>() {
    let site = Site::<D>::start().await;
    let old = WorkerConfig {
        leaves_unknown: true,
        ..site.worker()
    };
    let new = WorkerConfig {
        version: Version::Next,
        ..old.clone()
    };
    let mut old = Worker::start(&old);
    let mut known = site.publish([WorkRequested::taking(0)]).await;
    let left = site.publish([cancelled()]).await;
    site.await_rows("processed", &known).await;
    site.await_rows("pending", &left).await;
    site.await_acknowledged("billing").await;

    let mut new = Worker::start(&new);
    known.extend(left);
    known.sort();
    site.await_rows("processed", &known).await;

    // Both run now, and either reads what is new; what the old one leaves does not wait for
    // another start.
    known.extend(site.publish((0..20).map(|_| cancelled())).await);
    known.sort();
    site.await_rows("processed", &known).await;
    old.stop().await;
    let report = new.stop().await;
    assert_eq!(site.effects().await, known);
    assert_eq!(report.count("processed"), 21, "{report:?}");
    assert_eq!(site.column("retry_count").await, ["0"; 22]);
}

async fn g3_an_old_worker_runs_on_a_newer_table<D: Database>() {
    let site = Site::<D>::start().await;
    // What a later version's migration may do while older ones run.
    site.database
        .change("ALTER TABLE event_inbox ADD COLUMN priority INTEGER NOT NULL DEFAULT 0")
        .await;
    site.database
        .change("INSERT INTO event_inbox_migrations (version) VALUES (1000)")
        .await;

    let mut migrates = Worker::start(&WorkerConfig {
        job: Job::Migrate,
        ..site.worker()
    });
    let status = migrates.exit().await;

    assert!(status.success(), "{status}:\n{}", migrates.logs());
    site.database.inbox().check_schema().await.unwrap();
    let versions = "SELECT CAST(version AS TEXT) FROM event_inbox_migrations ORDER BY event_inbox_migrations.version";
    assert_eq!(site.database.texts(versions).await, ["2", "1000"]);
    let ids = site.publish([WorkRequested::taking(0)]).await;
    let _worker = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
    assert_eq!(site.effects().await, ids);
}
