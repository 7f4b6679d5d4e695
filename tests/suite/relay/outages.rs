//! Servers that are away, and come back.

use std::time::Duration;

use eventflow::{
    outbox::{Outbox, PgOutbox},
    prelude::*,
};
use eventflow_tests::{eventually, postgres::PostgresServer, proxy::Proxy, redis::RedisServer};

use super::{
    Broker, DEADLINE, Running, event, events,
    fixture::{Fixture, Postgres},
    on_each_database,
};

on_each_database!(
    a_relay_waits_for_the_broker_and_loses_nothing,
    a_relay_that_stops_while_the_broker_is_away_ends,
);

async fn a_relay_waits_for_the_broker_and_loses_nothing(fixture: impl Fixture) {
    let broker = Broker::default();
    broker.go_away(true);
    fixture.write(&events(&["1", "2"])).await;
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.poll_interval(Duration::from_millis(20)));

    eventually(DEADLINE, async || running.report().send_failures > 2).await;
    let health = running.health();
    assert!(health.is_live() && !health.broker_reachable, "{health:?}");
    assert!(!health.lag.is_zero(), "{health:?}");
    fixture.write(&events(&["3"])).await;
    broker.go_away(false);

    // Of aggregates of their own: those that failed may come after the others.
    eventually(DEADLINE, async || {
        let mut taken = broker.taken();
        taken.sort_unstable();
        taken == ["1", "2", "3"]
    })
    .await;
    eventually(DEADLINE, async || running.health().is_ready()).await;
    running.stop().await;
}

async fn a_relay_that_stops_while_the_broker_is_away_ends(fixture: impl Fixture) {
    let broker = Broker::default();
    broker.go_away(true);
    fixture.write(&events(&["1"])).await;
    let running = Running::start(Relay::builder(fixture.outbox().clone(), broker));
    eventually(DEADLINE, async || running.report().send_failures > 0).await;

    let report = running.stop().await;

    assert_eq!(report.published, 0, "{report}");
    assert_eq!(fixture.in_state("pending").await, ["1"]);
}

async fn stream(redis: &RedisServer) -> RedisStream {
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.command_timeout(Duration::from_millis(500));
    stream.connect().await.unwrap()
}

async fn ids(redis: &RedisServer) -> Vec<String> {
    let published = super::killed::published(redis).await.into_iter();
    published.map(|each| each.event_id).collect()
}

/// Rows R1 and R4: killed, and standing still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_back_and_gets_everything() {
    let (mut redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let relay = Relay::builder(fixture.outbox().clone(), stream(&redis).await);
    let running = Running::start(relay.poll_interval(Duration::from_millis(20)));
    fixture.write(&[event("1")]).await;
    eventually(DEADLINE, async || {
        fixture.in_state("published").await == ["1"]
    })
    .await;

    redis.kill();
    fixture.write(&[event("2")]).await;
    eventually(DEADLINE, async || running.report().send_failures > 0).await;
    redis.start_again().await;
    eventually(DEADLINE, async || {
        fixture.in_state("published").await == ["1", "2"]
    })
    .await;

    redis.pause();
    fixture.write(&[event("3")]).await;
    let before = running.report().send_failures;
    eventually(DEADLINE, async || running.report().send_failures > before).await;
    fixture.write(&[event("4")]).await;
    redis.resume();
    eventually(DEADLINE, async || {
        fixture.in_state("pending").await.is_empty()
    })
    .await;

    let mut ids = ids(&redis).await;
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    running.stop().await;
}

/// Row R5: all of a batch or none of it, so that what is refused for a moment is not overtaken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_takes_all_later() {
    let (redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    fixture.write(&events(&["1", "2", "3"])).await;
    let running = Running::start(Relay::builder(
        fixture.outbox().clone(),
        stream(&redis).await,
    ));
    eventually(DEADLINE, async || running.report().send_failures > 1).await;
    assert_eq!(fixture.in_state("pending").await, ["1", "2", "3"]);

    let _: String = redis.run(&["CONFIG", "SET", "maxmemory", "0"]).await;

    eventually(DEADLINE, async || {
        fixture.in_state("published").await == ["1", "2", "3"]
    })
    .await;
    assert_eq!(ids(&redis).await, ["1", "2", "3"]);
    running.stop().await;
}

/// Row P1: what was sent meanwhile is marked when the database is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_comes_back_and_is_told() {
    let mut server = PostgresServer::start().await;
    let url = server.create_database().await;
    let outbox = PgOutbox::connect(&url).await.unwrap();
    outbox.migrate().await.unwrap();
    let broker = Broker::default();
    let relay = Relay::builder(outbox.clone(), broker.clone());
    let running = Running::start(relay.poll_interval(Duration::from_millis(20)));
    eventually(DEADLINE, async || running.report().terms == 1).await;

    server.kill();
    eventually(DEADLINE, async || running.report().table_failures > 1).await;
    server.start_again().await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let mut within = Outbox::new(&mut transaction);
    within.publish_envelope(event("1")).await.unwrap();
    transaction.commit().await.unwrap();

    eventually(DEADLINE, async || broker.taken().contains(&"1".to_owned())).await;
    eventually(DEADLINE, async || {
        outbox
            .counts()
            .await
            .is_ok_and(|counts| counts.published == 1)
    })
    .await;
    running.stop().await;
}

/// The answer to the mark is lost, whether it was made or not: it is made again, and the event is not
/// published once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_whose_answer_is_lost_is_made_again() {
    let fixture = Postgres::start().await;
    let port: u16 = fixture.texts("SELECT inet_server_port()::text").await[0]
        .parse()
        .unwrap();
    let proxy = Proxy::start(port).await;
    let url = proxy.url(fixture.database.url());
    let broker = Broker::default();
    let outbox = PgOutbox::connect(&url).await.unwrap();
    let running = Running::start(Relay::builder(outbox, broker.clone()));
    eventually(DEADLINE, async || running.report().terms == 1).await;

    // The id of the entry goes to the table with the mark.
    proxy.cut_before(eventflow_tests::proxy::Direction::ToServer, "0-0");
    fixture.write(&events(&["1"])).await;

    eventually(DEADLINE, async || {
        fixture.in_state("published").await == ["1"]
    })
    .await;
    assert_eq!(broker.taken(), ["1"]);
    let report = running.stop().await;
    assert!(report.table_failures > 0, "{report}");
}
