//! Rows K1 to K6: a worker process dies between two steps of an event, and another goes on.

use std::time::Duration;

use eventflow::Envelope;
use eventflow_tests::{
    eventually,
    shop::{Database, OnPostgres},
    site::Site,
    work::{End, WorkRequested},
    worker::{Worker, WorkerConfig, WorkerReport},
};
use sqlx::Connection;
use uuid::Uuid;

use super::{DEADLINE, dies_at, held_up, holding_up};

on_every_database!(
    another_worker_finishes_what_a_killed_one_had_begun,
    k1_killed_after_read_before_insert,
    k1_restarted_under_its_name_after_read,
    k2_killed_after_insert_before_commit,
    k3_killed_after_commit_before_ack,
    k4_killed_after_claim_before_handler,
    k5_killed_inside_the_handlers_transaction,
    k6_killed_after_the_handlers_commit,
    killed_at_every_point_in_turn_nothing_is_lost_or_done_twice,
    killed_at_every_point_in_turn_in_order_too,
    a_worker_in_which_every_point_fails_loses_nothing_and_does_nothing_twice,
    a_worker_in_order_in_which_every_point_fails_too,
);

on_postgres!(k2_killed_while_the_server_inserts,);

/// Every point that an event passes.
const POINTS: [&str; 10] = [
    "after_read",
    "after_insert",
    "after_commit",
    "before_ack",
    "after_ack",
    "after_claim",
    "in_handler",
    "before_settle",
    "before_commit",
    "after_settle_commit",
];

/// Work of one aggregate, some of which is claimed once more: it fails at first.
async fn work_and_failures<D: Database>(site: &Site<D>) -> Vec<String> {
    let aggregate = Uuid::now_v7();
    let ends = [End::Done, End::FailOnce, End::Done];
    let envelopes = ends.map(|end| {
        let envelope = Envelope::new(&WorkRequested::ending(end)).unwrap();
        envelope.with_aggregate_id(aggregate)
    });
    site.publish_envelopes(&envelopes).await
}

/// Sees that the events of each aggregate were processed in the order in which they came.
async fn were_in_order<D: Database>(site: &Site<D>) {
    let by = |column: &str| {
        let sql = format!("SELECT event_id FROM event_inbox ORDER BY aggregate_id, {column}");
        site.database.texts(sql)
    };
    assert_eq!(by("processed_at").await, by("position").await);
}

async fn killed_at_every_point_in_turn_nothing_is_lost_or_done_twice<D: Database>() {
    dies_at_every_point::<D>(false).await;
}

async fn killed_at_every_point_in_turn_in_order_too<D: Database>() {
    dies_at_every_point::<D>(true).await;
}

/// Each worker stands at a point when it is killed, with what it has open.
async fn dies_at_every_point<D: Database>(ordered: bool) {
    let site = Site::<D>::start().await;
    let mut config = site.worker();
    config.ordered = ordered;
    // Events that lapse alone again and again are not to be held for their killers.
    config.max_retries = 100;
    let mut ids = Vec::new();
    for point in POINTS {
        ids.extend(work_and_failures(&site).await);
        let mut worker = Worker::start_to_fail(&config, &format!("{point}=stall"));
        worker.logs_say("fail point").await;
        worker.kill();
    }
    ids.sort();

    finish_as(&site, &config, &ids).await;
    if ordered {
        were_in_order(&site).await;
    }
}

/// The points at which a worker has not failed twice.
fn still_to_fail(worker: &Worker) -> Vec<&'static str> {
    let logs = worker.logs();
    let failures = |point: &str| {
        let failure = format!("fail point point=\"{point}\" action=Fail");
        logs.matches(&failure).count()
    };
    let points = POINTS.into_iter();
    points.filter(|point| failures(point) < 2).collect()
}

async fn a_worker_in_which_every_point_fails_loses_nothing_and_does_nothing_twice<D: Database>() {
    fails_at_every_point::<D>(false).await;
}

async fn a_worker_in_order_in_which_every_point_fails_too<D: Database>() {
    fails_at_every_point::<D>(true).await;
}

/// There is more work as long as one point was not passed often enough.
async fn fails_at_every_point<D: Database>(ordered: bool) {
    let site = Site::<D>::start().await;
    let points = POINTS.map(|point| format!("{point}=fail*2")).join(",");
    let mut config = site.worker();
    config.ordered = ordered;
    let mut worker = Worker::start_to_fail(&config, &points);
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(work_and_failures(&site).await);
        ids.sort();
        site.await_rows("processed", &ids).await;
        site.await_acknowledged("billing").await;
        if still_to_fail(&worker).is_empty() {
            break;
        }
    }
    worker.stop().await;

    let left = still_to_fail(&worker);
    assert!(left.is_empty(), "{left:?} in:\n{}", worker.logs());
    assert_eq!(site.effects().await, ids);
    if ordered {
        were_in_order(&site).await;
    }
}

/// A handful of events that are done at once.
async fn some_work<D: Database>(site: &Site<D>) -> Vec<String> {
    site.publish((0..5).map(|_| WorkRequested::taking(0))).await
}

/// Another worker does all that is left: each event has one effect, and all are acknowledged.
async fn finish<D: Database>(site: &Site<D>, ids: &[String]) -> WorkerReport {
    finish_as(site, &site.worker(), ids).await
}

/// As [`finish`], by a worker of one's own.
async fn finish_as<D: Database>(
    site: &Site<D>,
    config: &WorkerConfig,
    ids: &[String],
) -> WorkerReport {
    let mut worker = Worker::start(config);
    site.await_rows("processed", ids).await;
    site.await_acknowledged("billing").await;
    let report = worker.stop().await;
    assert_eq!(site.effects().await, ids);
    report
}

async fn another_worker_finishes_what_a_killed_one_had_begun<D: Database>() {
    let site = Site::<D>::start().await;
    let events = (0..150).map(|_| WorkRequested::taking(10));
    let ids = site.publish(events).await;

    let mut first = Worker::start(&site.worker());
    eventually(DEADLINE, async || !site.effects().await.is_empty()).await;
    first.kill();

    let before = site.effects().await.len();
    assert!(before < 150, "the worker was to be killed in the middle");
    finish(&site, &ids).await;
}

async fn k1_killed_after_read_before_insert<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;

    dies_at("after_read", &site.worker()).await;

    assert_eq!(site.pending("billing").await, 5);
    assert!(site.column("status").await.is_empty());
    let report = finish(&site, &ids).await;
    assert_eq!(report.count("claimed"), 5, "{report:?}");
    assert_eq!(report.count("duplicates"), 0, "{report:?}");
}

async fn k1_restarted_under_its_name_after_read<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;
    let mut config = site.worker();
    config.reader = Some("billing-1".to_owned());
    // Nothing of it is to be found by its idle time.
    config.claim_idle = Duration::from_hours(1);

    dies_at("after_read", &config).await;

    let mut again = Worker::start(&config);
    site.await_rows("processed", &ids).await;
    site.await_acknowledged("billing").await;
    let report = again.stop().await;
    assert_eq!(site.effects().await, ids);
    assert_eq!(report.count("claimed"), 0, "{report:?}");
}

async fn k2_killed_after_insert_before_commit<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;

    dies_at("after_insert", &site.worker()).await;

    assert_eq!(site.pending("billing").await, 5);
    assert!(site.column("status").await.is_empty());
    let report = finish(&site, &ids).await;
    assert_eq!(report.count("claimed"), 5, "{report:?}");
    assert_eq!(report.count("duplicates"), 0, "{report:?}");
}

/// A server that has the statement may commit it though nobody waits for its answer any more.
async fn k2_killed_while_the_server_inserts<D: OnPostgres>() {
    let site = Site::<D>::start().await;
    let envelope = |_| Envelope::new(&WorkRequested::taking(0)).unwrap();
    let envelopes: Vec<_> = (0..5).map(envelope).collect();
    let beside = holding_up(&site.database, &envelopes[2].metadata().event_id).await;
    let ids = site.publish_envelopes(&envelopes).await;
    let mut worker = Worker::start(&site.worker());
    eventually(DEADLINE, async || !held_up(&site.database).await.is_empty()).await;

    worker.kill();
    beside.close().await.unwrap();

    // Inline nobody is there to commit, which is more than a statement.
    let stored = if D::MODE.inline { 0 } else { 5 };
    if stored > 0 {
        site.await_rows("processing", &ids).await;
    }
    assert_eq!(site.pending("billing").await, 5);
    let report = finish(&site, &ids).await;
    assert_eq!(report.count("duplicates"), stored, "{report:?}");
    assert_eq!(report.count("recovered"), stored, "{report:?}");
}

async fn k3_killed_after_commit_before_ack<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;

    // Inline they are handled by then.
    let (point, status, left) = if D::MODE.inline {
        ("before_ack", "processed", 0)
    } else {
        ("after_commit", "processing", 5)
    };
    dies_at(point, &site.worker()).await;

    assert_eq!(site.pending("billing").await, 5);
    assert_eq!(site.rows(status).await, ids);
    let report = finish(&site, &ids).await;
    assert_eq!(report.count("duplicates"), 5, "{report:?}");
    assert_eq!(report.count("recovered"), left, "{report:?}");
    assert_eq!(report.count("processed"), left, "{report:?}");
}

/// The matrix counts the lapse as an attempt. In the design only a lapse in the recovery lane does,
/// so that the neighbours of an event that ends its process are not charged for it.
async fn k4_killed_after_claim_before_handler<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site.publish([WorkRequested::ending(End::FailOnce)]).await;

    dies_at("after_claim", &site.worker()).await;

    assert_eq!(site.rows("processing").await, ids);
    assert_eq!(site.column("retry_count").await, ["1"]);
    let report = finish(&site, &ids).await;
    assert_eq!(report.count("recovered"), 1, "{report:?}");
    assert_eq!(site.column("retry_count").await, ["1"]);
}

async fn k5_killed_inside_the_handlers_transaction<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;

    dies_at("in_handler", &site.worker()).await;

    assert!(site.effects().await.is_empty());
    // Inline the rows are in that transaction too.
    let stored = if D::MODE.inline { vec![] } else { ids.clone() };
    assert_eq!(site.rows("processing").await, stored);
    let report = finish(&site, &ids).await;
    let lapsed = u64::try_from(stored.len()).unwrap();
    assert_eq!(report.count("recovered"), lapsed, "{report:?}");
    // What is stored is acknowledged while handlers begin: the process may have died before.
    assert_eq!(report.count("stored"), 5 - lapsed, "{report:?}");
    assert_eq!(site.column("retry_count").await, ["0"; 5]);
}

async fn k6_killed_after_the_handlers_commit<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = some_work(&site).await;

    dies_at("after_settle_commit", &site.worker()).await;

    let done = site.effects().await;
    assert!(!done.is_empty());
    assert_eq!(site.rows("processed").await, done);
    let report = finish(&site, &ids).await;
    let left = u64::try_from(ids.len() - done.len()).unwrap();
    assert_eq!(report.count("processed"), left, "{report:?}");
}
