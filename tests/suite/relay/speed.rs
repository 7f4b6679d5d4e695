//! How fast a relay is.

use std::time::Instant;

use eventflow::prelude::*;
use eventflow_tests::redis::RedisServer;

use super::{
    drain,
    fixture::{Fixture, Postgres},
};

const EVENTS: u32 = 50_000;

/// From Postgres to Redis, all that waits. The figure is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is for its figure, which is of use on a machine that does nothing else"]
async fn fifty_thousand_events_from_postgres_to_redis() {
    let (redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let insert = format!(
        "INSERT INTO event_outbox (event_id, event_type, aggregate_id, occurred_on, payload)
         SELECT number::text, 'OrderPaid', md5((number % 1000)::text)::uuid, now(),
             json_build_object('order_id', gen_random_uuid(), 'number', number)
         FROM generate_series(1, {EVENTS}) AS number"
    );
    fixture.change(&insert).await;
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.connect().await.unwrap();

    let began = Instant::now();
    let report = drain(fixture.outbox(), stream).await;
    let took = began.elapsed();

    assert_eq!(report.published, u64::from(EVENTS));
    let rate = f64::from(EVENTS) / took.as_secs_f64();
    println!("{EVENTS} events in {took:?}: {rate:.0} events/s");
}
