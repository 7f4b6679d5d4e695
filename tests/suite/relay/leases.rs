//! Several relays of one table.

use std::time::Duration;

use eventflow::{outbox::RelayPhase, prelude::*};
use eventflow_tests::{always, eventually};

use super::{Broker, DEADLINE, Running, event, events, fixture::Fixture, on_each_database};

on_each_database!(
    one_of_many_relays_publishes_and_each_event_goes_once,
    a_drain_waits_for_a_lease_that_lapses,
    a_drain_says_that_another_relay_publishes,
    a_lease_is_extended_while_the_broker_is_away,
);

async fn one_of_many_relays_publishes_and_each_event_goes_once(fixture: impl Fixture) {
    let broker = Broker::default();
    let relays: Vec<Running> = (0..4)
        .map(|_| {
            let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
            let relay = relay.batch_size(7).poll_interval(Duration::from_millis(10));
            Running::start(relay)
        })
        .collect();
    let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for ids in ids.chunks(5) {
        fixture
            .write(&ids.iter().map(|id| event(id)).collect::<Vec<_>>())
            .await;
    }

    eventually(DEADLINE, async || broker.taken().len() == 100).await;

    assert_eq!(broker.taken(), ids);
    let publishing = async || {
        let phases = relays.iter().map(|relay| relay.health().phase);
        phases
            .filter(|phase| *phase == RelayPhase::Publishing)
            .count()
    };
    eventually(DEADLINE, async || {
        let phases = relays.iter().map(|relay| relay.health().phase);
        !phases
            .into_iter()
            .any(|phase| phase == RelayPhase::Starting)
    })
    .await;
    assert_eq!(publishing().await, 1);
    for relay in relays {
        let report = relay.stop().await;
        assert_eq!(report.leases_lost, 0, "{report}");
    }
}

async fn a_drain_waits_for_a_lease_that_lapses(fixture: impl Fixture) {
    let lease = Duration::from_millis(300);
    let dead = std::sync::Arc::from("dead");
    fixture.outbox().acquire(&dead, lease).await.unwrap();
    fixture.write(&events(&["1"])).await;
    let broker = Broker::default();

    let relay = Relay::builder(fixture.outbox().clone(), broker.clone()).lease(lease);
    relay.build().unwrap().drain().await.unwrap();

    assert_eq!(broker.taken(), ["1"]);
}

async fn a_drain_says_that_another_relay_publishes(fixture: impl Fixture) {
    let other = std::sync::Arc::from("other");
    let minutes = Duration::from_mins(10);
    fixture.outbox().acquire(&other, minutes).await.unwrap();
    fixture.write(&events(&["1"])).await;
    let relay = Relay::builder(fixture.outbox().clone(), Broker::default());

    let relay = relay.lease(Duration::from_millis(100)).build().unwrap();
    let error = relay.drain().await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("another relay"), "{error}");
    assert_eq!(fixture.in_state("pending").await, ["1"]);
}

async fn a_lease_is_extended_while_the_broker_is_away(fixture: impl Fixture) {
    let broker = Broker::default();
    broker.go_away(true);
    fixture.write(&events(&["1"])).await;
    let lease = Duration::from_millis(300);
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.lease(lease));
    eventually(DEADLINE, async || running.report().send_failures > 0).await;

    let other = std::sync::Arc::from("other");
    always(4 * lease, async || {
        let taken = fixture.outbox().acquire(&other, lease).await.unwrap();
        taken.is_none()
    })
    .await;

    broker.go_away(false);
    eventually(DEADLINE, async || broker.taken() == ["1"]).await;
    running.stop().await;
}
