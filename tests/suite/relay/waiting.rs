//! Events that wait because the broker does not take them, and no other waits with them.

use std::time::Duration;

use eventflow::{ErrorKind, prelude::*};
use eventflow_tests::eventually;

use super::{
    Broker, DEADLINE, Running, event, events, fixture::Fixture, numbered, on_each_database,
};

on_each_database!(
    three_that_break_their_connections_stop_no_other,
    an_aggregate_that_fills_the_batch_stops_no_other,
    a_broker_that_takes_events_again_gets_all_of_them,
    a_shard_that_is_refused_waits_alone,
    an_event_that_waits_for_the_server_is_no_dead_letter,
    the_lag_of_a_backlog_is_that_of_its_oldest_event,
);

async fn are_published(fixture: &impl Fixture, count: usize) {
    eventually(DEADLINE, async || {
        fixture.in_state("published").await.len() == count
    })
    .await;
}

async fn three_that_break_their_connections_stop_no_other(fixture: impl Fixture) {
    let ids = ["1", "2", "3", "4", "5", "6"];
    fixture.write(&events(&ids)).await;
    let broker = Broker::default();
    for id in ["1", "2", "3"] {
        broker.break_at(id);
    }
    let running = Running::start(Relay::builder(fixture.outbox().clone(), broker.clone()));

    are_published(&fixture, 3).await;

    assert_eq!(broker.taken(), ["4", "5", "6"]);
    assert_eq!(fixture.in_state("pending").await, ["1", "2", "3"]);
    running.stop().await;
}

/// Its later events do not overtake the one that waits.
async fn an_aggregate_that_fills_the_batch_stops_no_other(fixture: impl Fixture) {
    let order = Uuid::now_v7();
    let of_order = |id: &str| numbered(order, 0).with_event_id(id);
    for batch_size in [1, 3] {
        let broker = Broker::default();
        broker.break_at("1");
        let of_one = ["1", "2", "3", "4"].map(of_order);
        fixture.write(&of_one).await;
        fixture.write(&events(&["5", "6"])).await;
        let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
        let running = Running::start(relay.batch_size(batch_size));

        are_published(&fixture, 2).await;
        assert_eq!(broker.taken(), ["5", "6"]);
        broker.accept();

        are_published(&fixture, 6).await;
        assert_eq!(broker.taken(), ["5", "6", "1", "2", "3", "4"]);
        running.stop().await;
        fixture.change("DELETE FROM event_outbox").await;
    }
}

async fn a_broker_that_takes_events_again_gets_all_of_them(fixture: impl Fixture) {
    let ids: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let all: Vec<_> = ids.iter().map(|id| event(id)).collect();
    fixture.write(&all).await;
    let broker = Broker::default();
    broker.refuse_all();
    let running = Running::start(Relay::builder(fixture.outbox().clone(), broker.clone()));
    eventually(DEADLINE, async || running.report().send_failures > 2).await;
    assert!(!running.health().broker_reachable);

    broker.accept();

    are_published(&fixture, 50).await;
    eventually(DEADLINE, async || running.health().is_ready()).await;
    let report = running.stop().await;
    assert_eq!(
        (report.published, report.dead_lettered),
        (50, 0),
        "{report}"
    );
}

async fn a_shard_that_is_refused_waits_alone(fixture: impl Fixture) {
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let all: Vec<_> = ids.iter().map(|id| event(id)).collect();
    fixture.write(&all).await;
    let broker = Broker::default();
    for id in ids.iter().step_by(4) {
        broker.refuse(id, ErrorKind::Stream);
    }
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.batch_size(10));
    are_published(&fixture, 30).await;
    assert!(!running.health().is_ready());
    assert!(!running.health().lag.is_zero());

    broker.accept();

    are_published(&fixture, 40).await;
    eventually(DEADLINE, async || running.health().lag.is_zero()).await;
    let report = running.stop().await;
    assert_eq!(
        (report.published, report.dead_lettered),
        (40, 0),
        "{report}"
    );
}

/// As by a full memory, that is full no more when the next one is sent.
async fn an_event_that_waits_for_the_server_is_no_dead_letter(fixture: impl Fixture) {
    fixture.write(&events(&["1"])).await;
    let broker = Broker::default();
    broker.be_busy_at("1");
    let running = Running::start(Relay::builder(fixture.outbox().clone(), broker.clone()));
    let mut others = 1;
    while running.report().send_failures < 12 {
        others += 1;
        let id = others.to_string();
        fixture.write(&[event(&id)]).await;
        let passes = async || fixture.in_state("published").await.contains(&id);
        eventually(DEADLINE, passes).await;
    }
    assert_eq!(fixture.in_state("pending").await, ["1"]);

    broker.accept();

    are_published(&fixture, others).await;
    assert_eq!(running.stop().await.dead_lettered, 0);
}

/// The first one is fresh, and the broker has not answered for it when the next one is fetched.
async fn the_lag_of_a_backlog_is_that_of_its_oldest_event<F: Fixture>(fixture: F) {
    fixture.write(&events(&["1", "2", "3"])).await;
    let hour_ago = format!(
        "UPDATE event_outbox SET created_at = {} WHERE event_id <> '1'",
        F::in_seconds(-3600)
    );
    assert_eq!(fixture.change(&hour_ago).await, 2);
    let broker = Broker::default();
    broker.stall_at("1");
    let relay = Relay::builder(fixture.outbox().clone(), broker);
    let relay = relay.batch_size(1).grace(Duration::from_millis(100));
    let running = Running::start(relay);

    eventually(DEADLINE, async || {
        running.health().lag >= Duration::from_hours(1)
    })
    .await;

    running.stop().await;
}
