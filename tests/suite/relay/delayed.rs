//! Events with a time.

use std::time::Duration;

use eventflow::prelude::*;
use eventflow_tests::eventually;

use super::{
    Broker, DEADLINE, NEVER, OrderPaid, Running, drain, events, fixture::Fixture, on_each_database,
};

on_each_database!(
    a_delayed_event_is_not_published_before_its_time,
    a_delayed_event_is_published_at_its_time_by_a_timer,
    delayed_events_and_others_do_not_starve_each_other,
);

fn paid() -> OrderPaid {
    OrderPaid {
        order_id: Uuid::now_v7(),
        number: 0,
    }
}

async fn a_delayed_event_is_not_published_before_its_time(fixture: impl Fixture) {
    let later = fixture.write_delayed(NEVER, &paid()).await;
    let now = fixture.write_delayed(Duration::ZERO, &paid()).await;
    fixture.write(&events(&["1"])).await;
    let broker = Broker::default();

    drain(fixture.outbox(), broker.clone()).await;

    assert_eq!(broker.taken(), [now, "1".to_owned()]);
    assert_eq!(fixture.in_state("pending").await, [later]);
}

async fn a_delayed_event_is_published_at_its_time_by_a_timer(fixture: impl Fixture) {
    let later = fixture
        .write_delayed(Duration::from_millis(700), &paid())
        .await;
    fixture.write_delayed(NEVER, &paid()).await;
    let broker = Broker::default();
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.poll_interval(NEVER));

    eventually(DEADLINE, async || broker.taken() == [later.clone()]).await;

    let sql = "SELECT event_id FROM event_outbox WHERE published_at < publish_at";
    assert!(fixture.texts(sql).await.is_empty());
    running.stop().await;
}

/// Each has half of a batch while both wait, and all of it when the other does not.
async fn delayed_events_and_others_do_not_starve_each_other(fixture: impl Fixture) {
    fixture
        .write(&events(&["1", "2", "3", "4", "5", "6"]))
        .await;
    let mut delayed = Vec::new();
    for _ in 0..3 {
        delayed.push(fixture.write_delayed(Duration::ZERO, &paid()).await);
    }
    let broker = Broker::default();

    let relay = Relay::builder(fixture.outbox().clone(), broker.clone()).batch_size(4);
    relay.build().unwrap().drain().await.unwrap();

    let [first, second, third] = delayed.try_into().unwrap();
    let order = [&first, &second, "1", "2", &third, "3", "4", "5", "6"];
    assert_eq!(broker.taken(), order);
}
