//! Broker → inbox → handler → outbox → broker, three times for each order, while workers and relays are
//! killed.

use std::time::{Duration, Instant};

use eventflow::{Inbox, outbox::OutboxTable};
use eventflow_tests::{
    chain::{create_steps, events_of_orders, orders_with, place_orders, wrong_orders},
    eventually,
    postgres::Database,
    redis::RedisServer,
    worker::{InboxAt, Job, Version, Worker, WorkerConfig},
};
use sqlx::PgPool;

const ORDERS: u32 = 10_000;
const AT_ONCE: u32 = 500;

const DEADLINE: Duration = Duration::from_mins(3);

/// How long processes live, at first; each lives longer than the one before.
const SHORTEST_LIFE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_orders_take_each_step_once_and_in_order_while_processes_are_killed() {
    let (redis, database) = tokio::join!(RedisServer::start(), Database::create());
    let inbox = eventflow::PgInbox::connect(database.url()).await.unwrap();
    inbox.migrate().await.unwrap();
    inbox.outbox().migrate().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    create_steps(&pool).await;
    let worker = WorkerConfig {
        version: Version::Chain,
        ordered: true,
        ..WorkerConfig::new(redis.url(), InboxAt::Postgres(database.url().to_owned()))
    };
    let relay = WorkerConfig {
        job: Job::Relay,
        batch_size: 500,
        ..worker.clone()
    };

    let placing = async {
        for _ in 0..ORDERS / AT_ONCE {
            place_orders(&pool, AT_ONCE).await;
        }
    };
    let kinds = [relay, worker];
    let ((), killed) = tokio::join!(placing, kill_until_closed(&kinds, &pool));

    assert!(killed >= 6, "only {killed} processes were killed");
    let wrong = wrong_orders(&pool).await;
    assert!(wrong.is_empty(), "{} orders: {wrong:?}", wrong.len());
    let orders = events_of_orders(&redis).await;
    assert_eq!(orders.len(), ORDERS as usize);
    for (order, events) in orders {
        assert_eq!(
            events,
            ["Placed", "Paid", "Receipted", "Shipped"],
            "{order}"
        );
    }
    let counts = inbox.counts("billing").await.unwrap();
    assert_eq!(counts.processed, 4 * u64::from(ORDERS), "{counts:?}");
    assert_eq!(counts.dead_letter, 0, "{counts:?}");
}

/// Runs two processes of each kind and kills one after the other, until all orders are closed; answers
/// how many were killed.
async fn kill_until_closed(kinds: &[WorkerConfig; 2], pool: &PgPool) -> u32 {
    let is_closed = async || orders_with(pool, "closed").await == u64::from(ORDERS);
    let mut running: Vec<(usize, Worker)> = (0..4)
        .map(|seat| (seat % 2, Worker::start(&kinds[seat % 2])))
        .collect();
    let mut killed = 0;
    let begun = Instant::now();
    while !is_closed().await {
        let life = SHORTEST_LIFE * (killed + 1);
        let until = Instant::now() + life;
        eventually(DEADLINE, async || {
            Instant::now() > until || is_closed().await
        })
        .await;
        let (kind, mut oldest) = running.remove(0);
        oldest.kill();
        killed += 1;
        running.push((kind, Worker::start(&kinds[kind])));
        assert!(begun.elapsed() < DEADLINE, "{killed} processes were killed");
    }
    killed
}
