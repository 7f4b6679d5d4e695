//! From the table to the broker, in order.

use std::time::Duration;

use eventflow::{outbox::Outbox, prelude::*};
use eventflow_tests::{eventually, redis::RedisServer};

use super::{
    Broker, DEADLINE, Running, drain, event, events,
    fixture::{Fixture, Postgres},
    numbered, on_each_database,
};

on_each_database!(
    events_are_published_in_order_and_marked,
    a_backlog_of_many_batches_is_published_in_order,
    published_events_are_deleted_if_that_is_asked_for,
    published_events_are_deleted_after_their_time,
    a_running_relay_publishes_what_is_written,
);

async fn events_are_published_in_order_and_marked(fixture: impl Fixture) {
    fixture.write(&events(&["1", "2", "3"])).await;
    let broker = Broker::default();

    let report = drain(fixture.outbox(), broker.clone()).await;

    assert_eq!(report.published, 3);
    assert_eq!(broker.taken(), ["1", "2", "3"]);
    let sql = "SELECT status || ' ' || stream_id FROM event_outbox
        WHERE published_at IS NOT NULL ORDER BY id";
    let marks = fixture.texts(sql).await;
    assert_eq!(marks, ["published 0-0", "published 1-0", "published 2-0"]);
    assert_eq!(drain(fixture.outbox(), broker.clone()).await.published, 0);
}

async fn a_backlog_of_many_batches_is_published_in_order(fixture: impl Fixture) {
    let ids: Vec<String> = (0..95).map(|number| number.to_string()).collect();
    fixture
        .write(&ids.iter().map(|id| event(id)).collect::<Vec<_>>())
        .await;
    let broker = Broker::default();

    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let report = relay.batch_size(10).build().unwrap().drain().await.unwrap();

    assert_eq!(report.published, 95);
    assert_eq!(broker.taken(), ids);
    assert!(fixture.in_state("pending").await.is_empty());
}

async fn published_events_are_deleted_if_that_is_asked_for(fixture: impl Fixture) {
    fixture.write(&events(&["1", "2"])).await;
    let broker = Broker::default();

    let relay = Relay::builder(fixture.outbox().clone(), broker.clone()).delete_published();
    relay.build().unwrap().drain().await.unwrap();

    assert_eq!(broker.taken(), ["1", "2"]);
    let rows = fixture.texts("SELECT event_id FROM event_outbox").await;
    assert!(rows.is_empty(), "{rows:?}");
}

async fn published_events_are_deleted_after_their_time(fixture: impl Fixture) {
    fixture.write(&events(&["1", "2"])).await;
    drain(fixture.outbox(), Broker::default()).await;

    let relay = Relay::builder(fixture.outbox().clone(), Broker::default());
    let running = Running::start(relay.keep_published(Duration::ZERO));

    eventually(DEADLINE, async || running.report().purged == 2).await;
    running.stop().await;
}

async fn a_running_relay_publishes_what_is_written(fixture: impl Fixture) {
    let broker = Broker::default();
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.poll_interval(Duration::from_millis(20)));

    for id in ["1", "2", "3"] {
        fixture.write(&[event(id)]).await;
        eventually(DEADLINE, async || {
            broker.taken().last().is_some_and(|last| last == id)
        })
        .await;
    }

    let health = running.health();
    assert!(health.is_live() && health.is_ready(), "{health:?}");
    assert!(health.last_published.is_some());
    let handle = running.handle.clone();
    let report = running.stop().await;
    assert_eq!((report.published, report.terms), (3, 1), "{report}");
    assert!(!handle.health().is_live());
    assert!(fixture.in_state("pending").await.is_empty());
}

/// Its row has the lower id, and is seen after the higher one was published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_commits_late_is_published() {
    let fixture = Postgres::start().await;
    let broker = Broker::default();
    let mut late = fixture.beside.begin().await.unwrap();
    let mut outbox = Outbox::new(&mut late);
    outbox.publish_envelope(event("late")).await.unwrap();
    fixture.write(&[event("early")]).await;

    drain(fixture.outbox(), broker.clone()).await;
    assert_eq!(broker.taken(), ["early"]);
    late.commit().await.unwrap();
    drain(fixture.outbox(), broker.clone()).await;

    assert_eq!(broker.taken(), ["early", "late"]);
    let rows = fixture.texts("SELECT event_id FROM event_outbox ORDER BY id");
    assert_eq!(rows.await, ["late", "early"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_name_the_entries_that_redis_has() {
    let (redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let order = Uuid::now_v7();
    let written: Vec<_> = (0..300).map(|number| numbered(order, number)).collect();
    fixture.write(&written).await;
    let stream = RedisStream::builder(redis.url()).stream("work");

    drain(fixture.outbox(), stream.connect().await.unwrap()).await;

    let published = super::killed::published(&redis).await;
    let ids = written.iter().map(|each| each.metadata().event_id.clone());
    assert_eq!(
        published
            .iter()
            .map(|each| each.event_id.clone())
            .collect::<Vec<_>>(),
        ids.collect::<Vec<_>>()
    );
    let entries = fixture.texts("SELECT stream_id FROM event_outbox ORDER BY id");
    let entries = entries.await;
    assert!(published.iter().map(|each| &each.entry).eq(&entries));
}
