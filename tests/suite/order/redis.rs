//! Order per aggregate with real servers, whose workers are killed and stopped.

use std::{collections::BTreeMap, time::Duration};

use eventflow::{Envelope, Sink as _, prelude::*};
use eventflow_tests::{
    postgres::Database,
    redis::RedisServer,
    work::{End, WorkRequested, create_effects},
    worker::{InboxAt, Signal, Worker, WorkerConfig},
};
use sqlx::{Executor as _, PgPool};

const AGGREGATES: u32 = 25;
const EVENTS: u32 = 24;

/// Some of which fail once, and are retried.
fn work(aggregate: u32, number: u32) -> Envelope {
    let event = WorkRequested {
        work_id: Uuid::from_u128(u128::from(aggregate) + 1),
        takes_ms: fastrand::u32(0..4),
        end: if fastrand::u8(0..6) == 0 {
            End::FailOnce
        } else {
            End::Done
        },
    };
    let envelope = Envelope::new(&event).unwrap();
    envelope.with_event_id(format!("{aggregate:03}/{number:03}"))
}

/// The numbers of each aggregate's events, in the order in which they were done.
async fn done(database: &PgPool) -> BTreeMap<String, Vec<u32>> {
    let names: Vec<String> = sqlx::query_scalar("SELECT event_id FROM effects ORDER BY place")
        .fetch_all(database)
        .await
        .unwrap();
    let mut done: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for name in names {
        let (aggregate, number) = name.split_once('/').unwrap();
        let numbers = done.entry(aggregate.to_owned()).or_default();
        numbers.push(number.parse().unwrap());
    }
    done
}

/// Kills a worker, stops one for longer than its leases last, or has one end, in turn.
async fn disturb(number: u32, workers: &mut [Worker], config: &WorkerConfig) {
    let victim = fastrand::usize(0..workers.len());
    match number % 6 {
        1 => {
            workers[victim].kill();
            workers[victim] = Worker::start(config);
        }
        3 => {
            // For longer than its leases last, the reader's too if it is the one.
            let reader = workers
                .iter()
                .position(|worker| worker.logs().contains("this process reads"));
            let stopped = &mut workers[reader.unwrap_or(victim)];
            stopped.signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            stopped.signal(Signal::CONT);
        }
        5 => {
            workers[victim].signal(Signal::TERM);
            workers[victim].exit().await;
            workers[victim] = Worker::start(config);
        }
        _ => tokio::time::sleep(Duration::from_millis(50)).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_while_workers_are_killed_and_stopped() {
    let (redis, database) = (RedisServer::start().await, Database::create().await);
    let inbox = PgInbox::connect(database.url()).await.unwrap();
    inbox.migrate().await.unwrap();
    let effects = PgPool::connect(database.url()).await.unwrap();
    create_effects(&effects).await;
    effects
        .execute("ALTER TABLE effects ADD COLUMN place BIGSERIAL")
        .await
        .unwrap();
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.connect().await.unwrap();
    let at = InboxAt::Postgres(database.url().to_owned());
    let config = WorkerConfig {
        ordered: true,
        batch_size: 15,
        max_retries: 0,
        ..WorkerConfig::new(redis.url(), at)
    };
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&config)).collect();
    for worker in &workers {
        worker.logs_say("consumer started").await;
    }

    for number in 0..EVENTS {
        let envelopes: Vec<_> = (0..AGGREGATES)
            .map(|aggregate| work(aggregate, number))
            .collect();
        stream.send(&envelopes).await.unwrap();
        disturb(number, &mut workers, &config).await;
    }
    let all = u64::from(AGGREGATES * EVENTS);
    eventflow_tests::eventually(Duration::from_mins(2), async || {
        inbox.counts("billing").await.unwrap().processed == all
    })
    .await;
    for worker in &mut workers {
        worker.stop().await;
    }

    let done = done(&effects).await;
    assert_eq!(done.len(), usize::try_from(AGGREGATES).unwrap());
    for (aggregate, numbers) in done {
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "{aggregate}");
    }
}
