//! Events that the broker refuses for good.

use std::time::Duration;

use eventflow::{ErrorKind, Sink, envelope::wire::Limits, prelude::*};
use eventflow_tests::{always, eventually, redis::RedisServer};

use super::{
    Broker, DEADLINE, NEVER, Running, drain, event, events,
    fixture::{Fixture, Postgres},
    numbered, on_each_database,
};

on_each_database!(
    refused_events_become_dead_letters_and_block_no_other,
    an_event_that_breaks_the_connection_is_a_dead_letter_and_others_pass,
    a_broker_that_refuses_everything_makes_no_dead_letters,
    requeued_dead_letters_are_published_with_their_ids,
    discarded_dead_letters_are_gone,
);

/// At the ends of the batch, and side by side.
async fn refused_events_become_dead_letters_and_block_no_other(fixture: impl Fixture) {
    let ids = ["0", "1", "2", "3", "4", "5", "6", "7", "8"];
    let refused = ["0", "3", "4", "8"];
    for kind in [ErrorKind::Encode, ErrorKind::Refused] {
        let broker = Broker::default();
        for id in refused {
            broker.refuse(id, kind);
        }
        fixture.write(&events(&ids)).await;

        let report = drain(fixture.outbox(), broker.clone()).await;

        assert_eq!((report.published, report.dead_lettered), (5, 4), "{kind:?}");
        assert_eq!(broker.taken(), ["1", "2", "5", "6", "7"], "{kind:?}");
        assert_eq!(fixture.in_state("dead_letter").await, refused);
        let letters = fixture.outbox().dead_letters(10).await.unwrap();
        assert_eq!(letters.len(), 4);
        assert_eq!(letters[0].error_message, "the event is too large");
        fixture.change("DELETE FROM event_outbox").await;
    }
}

/// The later event of its aggregate waits until it is decided.
async fn an_event_that_breaks_the_connection_is_a_dead_letter_and_others_pass(
    fixture: impl Fixture,
) {
    let order = Uuid::now_v7();
    let of_order = |id: &str| numbered(order, 0).with_event_id(id);
    fixture
        .write(&[
            event("1"),
            of_order("2"),
            of_order("3"),
            event("4"),
            event("5"),
        ])
        .await;
    let broker = Broker::default();
    broker.break_at("2");
    let running = Running::start(Relay::builder(fixture.outbox().clone(), broker.clone()));
    // Each time that it fails, the broker takes another.
    let mut others = 5;
    while fixture.in_state("dead_letter").await.is_empty() {
        others += 1;
        let id = others.to_string();
        fixture.write(&[event(&id)]).await;
        let passes = async || fixture.in_state("published").await.contains(&id);
        eventually(DEADLINE, passes).await;
        let overtaken = broker.taken().contains(&"3".to_owned());
        assert!(!overtaken || fixture.in_state("dead_letter").await == ["2"]);
        assert!(others < 100, "{}", running.report());
    }

    eventually(DEADLINE, async || {
        fixture.in_state("pending").await.is_empty()
    })
    .await;

    assert_eq!(fixture.in_state("dead_letter").await, ["2"]);
    let taken = broker.taken();
    let expected: Vec<_> = (1..=others).filter(|number| *number != 2).collect();
    assert_eq!(taken.len(), expected.len(), "{taken:?}");
    running.stop().await;
}

async fn a_broker_that_refuses_everything_makes_no_dead_letters(fixture: impl Fixture) {
    fixture.write(&events(&["1", "2", "3"])).await;
    let broker = Broker::default();
    broker.refuse_all();
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let relay = relay.build().unwrap();

    let error = relay.drain().await.unwrap_err();

    assert_eq!(error.to_string(), "the user may not publish");
    assert_eq!(fixture.in_state("pending").await, ["1", "2", "3"]);
    broker.accept();
    assert_eq!(relay.drain().await.unwrap().published, 3);
    assert_eq!(broker.taken(), ["1", "2", "3"]);
}

async fn requeued_dead_letters_are_published_with_their_ids(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1", "2"])).await;
    let broker = Broker::default();
    broker.refuse("1", ErrorKind::Encode);
    drain(outbox, broker.clone()).await;
    let letters = outbox.dead_letters(10).await.unwrap();
    assert_eq!(letters[0].envelope.metadata().event_id, "1");
    broker.accept();

    // Of a published event nothing is requeued.
    let ids: Vec<i64> = (0..letters[0].id + 10).collect();
    assert_eq!(outbox.requeue(&ids).await.unwrap(), 1);
    drain(outbox, broker.clone()).await;

    assert_eq!(broker.taken(), ["2", "1"]);
    assert!(outbox.dead_letters(10).await.unwrap().is_empty());
}

async fn discarded_dead_letters_are_gone(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1", "2", "3"])).await;
    let broker = Broker::default();
    broker.refuse("1", ErrorKind::Encode);
    broker.refuse("2", ErrorKind::Encode);
    drain(outbox, broker).await;
    let letters = outbox.dead_letters(1).await.unwrap();
    assert_eq!(letters.len(), 1);

    let ids: Vec<i64> = (0..letters[0].id + 10).collect();
    assert_eq!(outbox.discard(&ids).await.unwrap(), 2);

    let rows = fixture.texts("SELECT event_id FROM event_outbox").await;
    assert_eq!(rows, ["3"]);
}

#[derive(Serialize, Deserialize, Event)]
struct Scan {
    image: String,
}

/// A payload of so many bytes.
fn scan(event_id: &str, bytes: usize) -> Envelope {
    let image = "x".repeat(bytes - r#"{"image":""}"#.len());
    let envelope = Envelope::new(&Scan { image }).unwrap();
    envelope.with_event_id(event_id)
}

/// While others go on.
async fn refused_among_others(redis: &RedisServer, sink: impl Sink + 'static, scan: Envelope) {
    let fixture = Postgres::start().await;
    fixture.write(&[event("1"), scan]).await;
    let running = Running::start(Relay::builder(fixture.outbox().clone(), sink));
    let mut others = 2;

    while fixture.in_state("dead_letter").await.is_empty() {
        others += 1;
        let id = others.to_string();
        fixture.write(&[event(&id)]).await;
        let passes = async || fixture.in_state("published").await.contains(&id);
        eventually(DEADLINE, passes).await;
        assert!(others < 100, "{}", running.report());
    }

    assert_eq!(fixture.in_state("dead_letter").await, ["2"]);
    let published = super::killed::published(redis).await.into_iter();
    let ids: Vec<_> = published.map(|each| each.event_id).collect();
    let expected = (1..=others).filter(|number| *number != 2);
    let expected: Vec<_> = expected.map(|number| number.to_string()).collect();
    assert_eq!(ids, expected);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_over_the_sinks_limit_is_a_dead_letter() {
    let redis = RedisServer::start().await;
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.limits(Limits::default().payload_bytes(1_000));
    let stream = stream.connect().await.unwrap();
    refused_among_others(&redis, stream, scan("2", 1_001)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_over_the_servers_limit_is_a_dead_letter() {
    let redis = RedisServer::start_with(&["--proto-max-bulk-len", "1mb"]).await;
    let stream = RedisStream::builder(redis.url()).stream("work");
    let stream = stream.connect().await.unwrap();
    refused_among_others(&redis, stream, scan("2", 1024 * 1024)).await;
}

/// Row R7: the server's words are about the key, not about an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_makes_no_dead_letters() {
    let (redis, fixture) = tokio::join!(RedisServer::start(), Postgres::start());
    let _: () = redis.run(&["SET", "work", "taken"]).await;
    let stream = RedisStream::builder(redis.url()).stream("work");
    fixture.write(&events(&["1", "2", "3"])).await;
    let relay = Relay::builder(fixture.outbox().clone(), stream.connect().await.unwrap());
    let running = Running::start(relay.poll_interval(NEVER));
    eventually(DEADLINE, async || running.report().send_failures > 0).await;

    always(Duration::from_millis(500), async || {
        fixture.in_state("pending").await == ["1", "2", "3"]
    })
    .await;
    let _: i64 = redis.run(&["DEL", "work"]).await;

    eventually(DEADLINE, async || {
        fixture.in_state("published").await == ["1", "2", "3"]
    })
    .await;
    running.stop().await;
}
