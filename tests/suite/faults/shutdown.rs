//! Rows G1 and G2: a worker is told to stop in the middle of its work.

use std::time::{Duration, Instant};

use eventflow_tests::{
    shop::Database,
    site::Site,
    work::{End, WorkRequested},
    worker::{Signal, Worker, WorkerConfig},
};

on_every_database!(
    g1_sigterm_in_the_middle_of_a_batch,
    g1_sigterm_cuts_what_outlasts_the_grace_period,
    g1_a_second_sigterm_ends_it_at_once,
    g2_sigterm_during_a_read,
);

fn one_at_a_time<D: Database>(site: &Site<D>) -> WorkerConfig {
    WorkerConfig {
        workers: 1,
        // What is not handed back would not come back within the test.
        lease: Duration::from_hours(1),
        ..site.worker()
    }
}

async fn g1_sigterm_in_the_middle_of_a_batch<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site
        .publish((0..10).map(|_| WorkRequested::taking(1_000)))
        .await;
    let mut worker = Worker::start(&one_at_a_time(&site));
    worker.logs_say("work begins").await;

    let report = worker.stop().await;

    let done = site.rows("processed").await;
    let waits = site.rows("pending").await;
    assert!((1..10).contains(&done.len()), "{report:?}");
    assert_eq!(done.len() + waits.len(), 10, "{report:?}");
    assert_eq!(site.effects().await, done);
    assert_eq!(report.count("processed"), done.len() as u64, "{report:?}");
    assert_eq!(
        report.count("handed_back"),
        waits.len() as u64,
        "{report:?}"
    );
    assert_eq!(site.column("retry_count").await, ["0"; 10]);
    assert_eq!(site.column("locked_by").await, [""; 10]);
    assert_eq!(site.pending("billing").await, 0, "not acknowledged");
    let _next = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
    assert_eq!(site.effects().await, ids);
}

async fn g1_sigterm_cuts_what_outlasts_the_grace_period<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site.publish([WorkRequested::ending(End::Hang)]).await;
    let mut config = one_at_a_time(&site);
    config.grace = Duration::from_millis(100);
    let mut worker = Worker::start(&config);
    worker.logs_say("work begins").await;

    let report = worker.stop().await;

    assert_eq!(report.count("handed_back"), 1, "{report:?}");
    assert_eq!(site.rows("pending").await, ids);
    assert_eq!(site.column("retry_count").await, ["0"]);
    assert!(site.effects().await.is_empty());
}

async fn g1_a_second_sigterm_ends_it_at_once<D: Database>() {
    let site = Site::<D>::start().await;
    let ids = site.publish([WorkRequested::ending(End::Hang)]).await;
    let mut config = one_at_a_time(&site);
    config.grace = Duration::from_hours(1);
    config.handler_timeout = Duration::from_hours(1);
    let mut worker = Worker::start(&config);
    worker.logs_say("work begins").await;
    worker.signal(Signal::TERM);
    worker.logs_say("consumer stops").await;

    let second = Instant::now();
    worker.signal(Signal::TERM);

    let status = worker.exit().await;
    assert_eq!(status.code(), Some(143), "{status}");
    assert!(second.elapsed() < Duration::from_secs(5));
    // As if it were killed: the row waits for the end of its lease, or inline the entry for another.
    let left = if D::MODE.inline { vec![] } else { ids };
    assert_eq!(site.rows("processing").await, left);
    let unacknowledged = i64::from(D::MODE.inline);
    assert_eq!(site.pending("billing").await, unacknowledged);
    assert!(site.effects().await.is_empty());
}

async fn g2_sigterm_during_a_read<D: Database>() {
    let site = Site::<D>::start().await;
    let mut ids = Vec::new();
    let mut processed = 0;

    for _ in 0..10 {
        let mut worker = Worker::start(&site.worker());
        worker.logs_say("consumer started").await;
        let events = (0..20).map(|_| WorkRequested::taking(0));
        let (published, report) = tokio::join!(site.publish(events), worker.stop());
        ids.extend(published);
        processed += report.count("processed");
    }

    ids.sort();
    let mut last = Worker::start(&site.worker());
    site.await_rows("processed", &ids).await;
    site.await_acknowledged("billing").await;
    processed += last.stop().await.count("processed");
    assert_eq!(site.effects().await, ids);
    assert_eq!(processed, 200);
}
