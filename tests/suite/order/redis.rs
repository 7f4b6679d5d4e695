//! Order per aggregate with real servers, whose workers are killed and stopped.

use std::{collections::BTreeMap, time::Duration};

use eventflow::{Envelope, Sink as _, prelude::*};
use eventflow_tests::{
    eventually,
    postgres::Database,
    redis::RedisServer,
    work::{End, WorkRequested, create_effects},
    worker::{InboxAt, Signal, Worker, WorkerConfig},
};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};

/// No disturbance takes as long as this to be over.
const DEADLINE: Duration = Duration::from_mins(1);

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

/// When a worker last said that it reads: logs begin with the time.
fn reads_since(worker: &Worker) -> Option<String> {
    let logs = worker.logs();
    let said = logs
        .lines()
        .rfind(|line| line.contains("this process reads"))?;
    Some(said.split_whitespace().next()?.to_owned())
}

/// The worker that has begun to read last.
fn reader(workers: &[Worker]) -> Option<usize> {
    let reader = (0..workers.len()).max_by_key(|&worker| reads_since(&workers[worker]))?;
    reads_since(&workers[reader]).map(|_| reader)
}

/// Sees that no turn was lost: one that was is passed on when a worker starts, and as often as a lease
/// lasts, which is logged.
fn lost_no_turn(worker: &Worker) {
    let logs = worker.logs();
    let found = logs.contains("rows that waited for events of their aggregates are due now");
    assert!(!found, "{logs}");
}

/// Kills a worker, stops the reader until another one reads, or has a worker end, in turn.
async fn disturb(number: u32, workers: &mut [Worker], config: &WorkerConfig) {
    let victim = fastrand::usize(0..workers.len());
    match number % 6 {
        1 => {
            workers[victim].kill();
            lost_no_turn(&workers[victim]);
            workers[victim] = Worker::start(config);
        }
        3 => {
            let stopped = reader(workers).unwrap_or(victim);
            workers[stopped].signal(Signal::STOP);
            let another = async || reader(workers).is_some_and(|reader| reader != stopped);
            eventually(DEADLINE, another).await;
            workers[stopped].signal(Signal::CONT);
        }
        5 => {
            workers[victim].signal(Signal::TERM);
            workers[victim].exit().await;
            lost_no_turn(&workers[victim]);
            workers[victim] = Worker::start(config);
        }
        _ => {}
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
    eventually(Duration::from_mins(2), async || {
        inbox.counts("billing").await.unwrap().processed == all
    })
    .await;
    for worker in &mut workers {
        worker.stop().await;
        lost_no_turn(worker);
    }

    let done = done(&effects).await;
    assert_eq!(done.len(), usize::try_from(AGGREGATES).unwrap());
    for (aggregate, numbers) in done {
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "{aggregate}");
    }
}

/// It has told the server that it goes on reading, and has not committed that. When it goes on, it is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_within_a_transaction_does_not_keep_its_right() {
    // Below the time for which a handler's transaction may stand still.
    const SOON: Duration = Duration::from_secs(20);
    const STAND_STILL: &str = "
        CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
        CREATE TRIGGER stand_still AFTER UPDATE ON event_inbox_leases EXECUTE FUNCTION stand_still();
        SELECT pg_advisory_lock(4711)";
    const STANDING: &str = "
        SELECT count(*) FROM pg_locks JOIN pg_database ON database = oid
        WHERE NOT granted AND locktype = 'advisory' AND datname = current_database()";

    let (redis, database) = (RedisServer::start().await, Database::create().await);
    let inbox = PgInbox::connect(database.url()).await.unwrap();
    inbox.migrate().await.unwrap();
    let beside = PgPool::connect(database.url()).await.unwrap();
    create_effects(&beside).await;
    beside
        .execute("ALTER TABLE effects ADD COLUMN place BIGSERIAL")
        .await
        .unwrap();
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.connect().await.unwrap();
    let at = InboxAt::Postgres(database.url().to_owned());
    let config = WorkerConfig {
        ordered: true,
        ..WorkerConfig::new(redis.url(), at)
    };
    let mut first = Worker::start(&config);
    first.logs_say("this process reads").await;

    let mut gate = PgConnection::connect(database.url()).await.unwrap();
    gate.execute(STAND_STILL).await.unwrap();
    eventually(DEADLINE, async || {
        let standing = sqlx::query_scalar::<_, i64>(STANDING);
        standing.fetch_one(&beside).await.unwrap() == 1
    })
    .await;
    first.signal(Signal::STOP);
    eventually(DEADLINE, async || first.is_paused()).await;
    gate.close().await.unwrap();

    let mut second = Worker::start(&config);
    eventually(SOON, async || reads_since(&second).is_some()).await;
    stream.send(&[work(0, 0)]).await.unwrap();
    first.signal(Signal::CONT);
    stream.send(&[work(0, 1)]).await.unwrap();
    eventually(DEADLINE, async || {
        inbox.counts("billing").await.unwrap().processed == 2
    })
    .await;

    assert_eq!(first.stop().await.count("read"), 0);
    assert_eq!(second.stop().await.count("read"), 2);
    assert_eq!(
        done(&beside).await,
        BTreeMap::from([("000".to_owned(), vec![0, 1])])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_unanswered_insert_has_stored_is_counted_as_stored() {
    let (redis, database) = (RedisServer::start().await, Database::create().await);
    let inbox = PgInbox::connect(database.url()).await.unwrap();
    inbox.migrate().await.unwrap();
    create_effects(&PgPool::connect(database.url()).await.unwrap()).await;
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.connect().await.unwrap();
    let at = InboxAt::Postgres(database.url().to_owned());
    let config = WorkerConfig {
        ordered: true,
        ..WorkerConfig::new(redis.url(), at)
    };
    let events = [0, 1, 2].map(|number| work(0, number));
    stream.send(&events).await.unwrap();

    let mut worker = Worker::start_to_fail(&config, "after_commit=fail*1");
    eventually(Duration::from_mins(1), async || {
        inbox.counts("billing").await.unwrap().processed == 3
    })
    .await;

    let report = worker.stop().await;
    let counts = ["read", "stored", "duplicates"].map(|name| report.count(name));
    assert_eq!(counts, [3, 3, 0]);
}
