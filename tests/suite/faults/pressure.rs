//! Rows B1 and B2: more work than can be done, all at once or once more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis;
use eventflow::{Envelope, Failure, inbox::backoff::Backoff};
use eventflow_tests::{
    always, eventually,
    redis::RedisServer,
    running::Running,
    shop::{Database, OnPostgres, Script, Shop, names},
    site::Site,
    work::{End, WorkRequested},
    worker::Worker,
};
use futures_util::FutureExt;

use super::DEADLINE;

/// Long enough to read some thousand entries more.
const A_WHILE: Duration = Duration::from_secs(2);

on_every_database!(b2_retry_storm_after_an_outage);

on_postgres!(b1_backlog_of_two_hundred_megabytes,);

/// Publishes events of ten kilobytes that are never done.
async fn backlog(redis: &RedisServer, events: usize) {
    let mut connection = redis.connection().await;
    connection.set_response_timeout(DEADLINE);
    let hangs = WorkRequested::ending(End::Hang);
    let ballast = "x".repeat(10 * 1024);
    for _ in 0..events / 1_000 {
        let mut pipeline = redis::pipe();
        for _ in 0..1_000 {
            let envelope = Envelope::new(&hangs).unwrap();
            let metadata = envelope.metadata();
            let payload = serde_json::json!({
                "work_id": hangs.work_id, "end": hangs.end, "ballast": ballast,
            });
            pipeline
                .cmd("XADD")
                .arg(&["work", "*", "event_type", "WorkRequested"])
                .arg(&["event_id", &metadata.event_id])
                .arg(&["aggregate_id", &metadata.aggregate_id.to_string()])
                .arg(&["occurred_on", &metadata.occurred_on.to_rfc3339()])
                .arg(&["payload", &payload.to_string()])
                .ignore();
        }
        () = pipeline.query_async(&mut connection).await.unwrap();
    }
}

/// The most memory that a process has had, in megabytes.
fn high_water(worker: &Worker) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.unwrap().split_whitespace();
    let kilobytes: usize = words.rev().nth(1).unwrap().parse().unwrap();
    kilobytes / 1024
}

/// As much as fits is leased, and the rest waits in the inbox or, beyond the high-water mark, in the
/// stream: the worker takes not half the memory that it would need for all of it.
async fn b1_backlog_of_two_hundred_megabytes<D: OnPostgres>() {
    const BATCH: usize = 100;
    /// Six batches wait, of which four are not acknowledged yet, two workers have a share of one each, and
    /// inline one is read.
    const HELD: usize = 13;
    const MARK: u32 = 5_000;

    let site = Site::<D>::start().await;
    backlog(&site.redis, 20_000).await;
    let mut config = site.worker();
    config.batch_size = BATCH;
    config.high_water_mark = MARK;
    config.lease = Duration::from_mins(1);

    let worker = Worker::start(&config);

    let waiting = async || site.rows("pending").await.len();
    // Inline those that run are not stored yet, and not acknowledged.
    let held = async || {
        let unstored = site.pending("billing").await;
        site.rows("processing").await.len() + usize::try_from(unstored).unwrap()
    };
    let mark = MARK as usize;
    eventually(DEADLINE, async || waiting().await > mark - BATCH).await;
    always(A_WHILE, async || {
        waiting().await <= mark && held().await <= HELD * BATCH
    })
    .await;
    let megabytes = high_water(&worker);
    assert!(megabytes < 100, "the worker took {megabytes} MB");
}

/// A service that the handlers of a hundred events need is away. They fail together and do not come
/// back together, and the others go on meanwhile.
async fn b2_retry_storm_after_an_outage<D: Database>() {
    const EVENTS: u32 = 100;
    const WORKERS: usize = 3;
    const WAIT: Duration = Duration::from_secs(2);

    let shop = Shop::<D>::open().await;
    let away = Arc::new(AtomicBool::new(true));
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (is_away, most_running) = (Arc::clone(&away), Arc::clone(&most));
    let script = Script::<D>::new().on_order(move |mut call| {
        let away = call.event.number < EVENTS && is_away.load(Ordering::SeqCst);
        let (running, most) = (Arc::clone(&running), Arc::clone(&most_running));
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            if away {
                return Err(Failure::retry("the service is away"));
            }
            call.write().await
        }
        .boxed()
    });
    let consumer = shop.consumer(script).workers(WORKERS).max_retries(0);
    let consumer = consumer.backoff(Backoff::new(WAIT, WAIT));
    let running = Running::start(consumer.build().unwrap());
    shop.orders(0..EVENTS).await;
    let failed = "SELECT event_id FROM event_inbox WHERE retry_count > 0";
    let count = async || shop.database.texts(failed).await.len();
    eventually(DEADLINE, async || count().await == EVENTS as usize).await;

    let waits = shop.database.texts(D::WAITS).await;
    let mut tenths = [0; 20];
    for wait in &waits {
        let wait: f64 = wait.parse().unwrap();
        tenths[(0..19)
            .filter(|tenth| wait >= f64::from(tenth + 1) / 10.0)
            .count()] += 1;
    }
    let crowd = tenths.iter().max().copied().unwrap_or(0);
    assert!(crowd * 3 < waits.len(), "waits crowd together: {tenths:?}");
    shop.orders(EVENTS..EVENTS + 10).await;
    let others = names(EVENTS..EVENTS + 10);
    eventually(DEADLINE, async || {
        shop.event_ids("processed").await == others
    })
    .await;

    away.store(false, Ordering::SeqCst);

    let all = names(0..EVENTS + 10);
    eventually(DEADLINE, async || shop.event_ids("processed").await == all).await;
    assert_eq!(shop.effects().await, all);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= WORKERS, "{most} handlers ran at once");
    running.stop().await;
}
