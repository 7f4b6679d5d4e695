//! Rows K7, K8 and N1: a relay's process dies or stands still, and another goes on.

use std::{collections::HashMap, time::Duration};

use eventflow::prelude::*;
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    worker::{Job, Signal, Worker, WorkerConfig},
};

use super::{
    drain, events,
    fixture::{Postgres, Shared, on_each_shared_database},
    numbered,
};

on_each_shared_database!(
    k7_killed_after_sending_before_marking,
    k7_killed_before_sending_and_after_marking,
    k8_killed_while_deleting_what_is_old,
    a_relay_takes_over_from_one_that_is_killed_with_order_kept,
    a_relay_that_stops_hands_over_at_once,
);

const DEADLINE: Duration = Duration::from_mins(1);

/// An entry of the stream `work`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Published {
    #[serde(skip)]
    pub(super) entry: String,
    pub(super) event_id: String,
    aggregate_id: Uuid,
    payload: Number,
}

#[derive(Debug, Clone, Deserialize)]
struct Number {
    #[serde(default)]
    number: u64,
}

/// Everything in the stream `work`.
pub(super) async fn published(redis: &RedisServer) -> Vec<Published> {
    let entries: Vec<(String, HashMap<String, String>)> =
        redis.run(&["XRANGE", "work", "-", "+"]).await;
    let entries = entries.into_iter().map(|(entry, fields)| {
        let published: Published = serde_json::from_str(&fields["data"]).unwrap();
        Published { entry, ..published }
    });
    entries.collect()
}

async fn published_ids(redis: &RedisServer) -> Vec<String> {
    let published = published(redis).await.into_iter();
    published.map(|each| each.event_id).collect()
}

fn relay(redis: &RedisServer, fixture: &impl Shared) -> WorkerConfig {
    WorkerConfig {
        job: Job::Relay,
        batch_size: 20,
        lease: Duration::from_millis(500),
        ..WorkerConfig::new(redis.url(), fixture.at())
    }
}

/// Runs a relay until it dies at a point.
async fn dies_at(point: &str, config: &WorkerConfig) {
    let mut worker = Worker::start_to_fail(config, &format!("{point}=abort"));
    let status = worker.exit().await;
    assert!(!status.success(), "{}", worker.logs());
}

/// Waits until everything is published and marked.
async fn await_done(fixture: &impl Shared) {
    eventually(DEADLINE, async || {
        fixture.in_state("pending").await.is_empty()
    })
    .await;
}

async fn k7_killed_after_sending_before_marking(fixture: impl Shared) {
    let redis = RedisServer::start().await;
    fixture.write(&events(&["1", "2", "3"])).await;

    dies_at("after_send", &relay(&redis, &fixture)).await;

    assert_eq!(published_ids(&redis).await, ["1", "2", "3"]);
    assert_eq!(fixture.in_state("pending").await, ["1", "2", "3"]);
    let mut worker = Worker::start(&relay(&redis, &fixture));
    await_done(&fixture).await;
    let report = worker.stop().await;
    assert_eq!(report.count("published"), 3, "{report:?}");
    // Again, under their ids, by which an inbox knows them.
    assert_eq!(published_ids(&redis).await, ["1", "2", "3", "1", "2", "3"]);
}

async fn k7_killed_before_sending_and_after_marking(fixture: impl Shared) {
    let redis = RedisServer::start().await;
    fixture.write(&events(&["1", "2", "3"])).await;

    dies_at("before_send", &relay(&redis, &fixture)).await;
    assert!(published_ids(&redis).await.is_empty());
    dies_at("after_mark", &relay(&redis, &fixture)).await;

    assert_eq!(fixture.in_state("published").await, ["1", "2", "3"]);
    fixture.write(&events(&["4"])).await;
    let mut worker = Worker::start(&relay(&redis, &fixture));
    await_done(&fixture).await;
    worker.stop().await;
    assert_eq!(published_ids(&redis).await, ["1", "2", "3", "4"]);
}

async fn k8_killed_while_deleting_what_is_old(fixture: impl Shared) {
    let redis = RedisServer::start().await;
    fixture.write(&events(&["1", "2", "3"])).await;
    drain(fixture.outbox(), super::Broker::default()).await;
    let config = WorkerConfig {
        keep_processed: Duration::ZERO,
        ..relay(&redis, &fixture)
    };

    dies_at("in_retention", &config).await;

    fixture.write(&events(&["4"])).await;
    let mut worker = Worker::start(&relay(&redis, &fixture));
    await_done(&fixture).await;
    worker.stop().await;
    assert_eq!(fixture.in_state("published").await, ["4"]);
}

/// Events of a few aggregates in turn, some of them written while `between` happens.
struct Orders {
    ids: Vec<Uuid>,
    written: u64,
}

impl Orders {
    fn new() -> Self {
        Self {
            ids: (0..7).map(|_| Uuid::now_v7()).collect(),
            written: 0,
        }
    }

    /// Writes so many events, some to a transaction.
    async fn write(&mut self, fixture: &impl Shared, events: u64) {
        let numbers: Vec<u64> = (self.written..self.written + events).collect();
        self.written += events;
        for numbers in numbers.chunks(9) {
            let order = |number: &u64| self.ids[usize::try_from(*number).unwrap() % self.ids.len()];
            let events = numbers
                .iter()
                .map(|number| numbered(order(number), *number));
            fixture.write(&events.collect::<Vec<_>>()).await;
        }
    }

    /// Each event is in the stream, and those of an aggregate come for the first time in their order.
    async fn assert_published(&self, redis: &RedisServer) {
        let mut last: HashMap<Uuid, u64> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for event in published(redis).await {
            if !seen.insert(event.event_id) {
                continue;
            }
            let number = event.payload.number;
            let before = last.insert(event.aggregate_id, number);
            assert!(
                before.is_none_or(|before| before < number),
                "{number} came after {before:?}"
            );
        }
        assert_eq!(seen.len(), usize::try_from(self.written).unwrap());
    }
}

async fn a_relay_takes_over_from_one_that_is_killed_with_order_kept(fixture: impl Shared) {
    let redis = RedisServer::start().await;
    let config = relay(&redis, &fixture);
    let mut orders = Orders::new();
    let mut other = Worker::start(&config);
    other.logs_say("relay publishes").await;
    for _ in 0..4 {
        let mut killed = other;
        other = Worker::start(&config);
        orders.write(&fixture, 200).await;
        killed.kill();
        orders.write(&fixture, 50).await;
        other.logs_say("relay publishes").await;
    }
    await_done(&fixture).await;
    other.stop().await;

    orders.assert_published(&redis).await;
}

/// Waits until one of these has the lease, and answers its process's number.
async fn holder(fixture: &impl Shared, workers: &[&Worker]) -> u32 {
    let sql = "SELECT holder FROM event_outbox_leases";
    let holders = async || {
        let holders = fixture.texts(sql).await;
        let ids = workers.iter().map(|worker| worker.id());
        ids.into_iter().find(|id| {
            holders
                .iter()
                .any(|holder| holder.starts_with(&format!("{id}-")))
        })
    };
    eventually(DEADLINE, async || holders().await.is_some()).await;
    holders().await.unwrap()
}

/// Stopped wherever it is. On SQLite, one that is stopped while it writes keeps all others from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n1_a_relay_that_stood_still_loses_nothing_and_keeps_the_order() {
    let (redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let config = relay(&redis, &fixture);
    let mut orders = Orders::new();
    let mut first = Worker::start(&config);
    let mut second = Worker::start(&config);
    for _ in 0..5 {
        orders.write(&fixture, 200).await;
        let holder = holder(&fixture, &[&first, &second]).await;
        let (paused, other) = if holder == first.id() {
            (&mut first, &second)
        } else {
            (&mut second, &first)
        };
        paused.signal(Signal::STOP);
        eventually(DEADLINE, async || paused.is_paused()).await;
        let losses = async || paused.logs().matches("has taken over").count();
        let before = losses().await;
        orders.write(&fixture, 100).await;
        self::holder(&fixture, &[other]).await;
        await_done(&fixture).await;

        paused.signal(Signal::CONT);

        let losses = async || paused.logs().matches("has taken over").count();
        eventually(DEADLINE, async || losses().await > before).await;
    }
    await_done(&fixture).await;
    first.stop().await;
    second.stop().await;

    orders.assert_published(&redis).await;
}

async fn a_relay_that_stops_hands_over_at_once(fixture: impl Shared) {
    let redis = RedisServer::start().await;
    let config = WorkerConfig {
        lease: Duration::from_mins(10),
        ..relay(&redis, &fixture)
    };
    let mut first = Worker::start(&config);
    first.logs_say("relay publishes").await;
    let mut second = Worker::start(&config);
    second.logs_say("relay started").await;

    first.stop().await;

    second.logs_say("relay publishes").await;
    fixture.write(&events(&["1"])).await;
    await_done(&fixture).await;
    let report = second.stop().await;
    assert_eq!(report.count("published"), 1, "{report:?}");
}
