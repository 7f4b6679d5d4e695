//! What wakes a relay: commits in its process, and in others.

use std::time::{Duration, Instant};

use eventflow::{outbox::PgOutbox, prelude::*};
use eventflow_tests::{always, eventually};

use super::{
    Broker, DEADLINE, NEVER, Running, event, events,
    fixture::{Fixture, Postgres},
    on_each_database,
};

on_each_database!(a_relay_is_woken_by_its_own_process,);

/// How long another process may take to hear of a commit.
const SOON: Duration = Duration::from_millis(500);

async fn a_relay_is_woken_by_its_own_process(fixture: impl Fixture) {
    let broker = Broker::default();
    let relay = Relay::builder(fixture.outbox().clone(), broker.clone());
    let running = Running::start(relay.poll_interval(NEVER));
    fixture.write(&events(&["1"])).await;
    fixture.outbox().wake();
    eventually(DEADLINE, async || broker.taken() == ["1"]).await;

    fixture.write(&events(&["2"])).await;
    fixture.outbox().wake();

    eventually(DEADLINE, async || broker.taken() == ["1", "2"]).await;
    running.stop().await;
}

/// A relay that only polls once in a while, and has heard of a first event: it listens.
async fn listening(fixture: &Postgres) -> (Running, Broker) {
    let broker = Broker::default();
    let outbox = PgOutbox::connect(fixture.database.url()).await.unwrap();
    let relay = Relay::builder(outbox, broker.clone());
    let running = Running::start(relay.poll_interval(Duration::from_mins(1)));
    eventually(DEADLINE, async || sessions_that_listen(fixture).await == 1).await;
    fixture.write(&[event("first")]).await;
    eventually(DEADLINE, async || broker.taken() == ["first"]).await;
    (running, broker)
}

async fn sessions_that_listen(fixture: &Postgres) -> usize {
    let sql = "SELECT pid::text FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    fixture.texts(sql).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_relay_of_another_process_at_once() {
    let fixture = Postgres::start().await;
    let (running, broker) = listening(&fixture).await;

    for number in 1..=5 {
        fixture.write(&[event(&number.to_string())]).await;
        let committed = Instant::now();
        eventually(DEADLINE, async || broker.taken().len() == number + 1).await;
        assert!(committed.elapsed() < SOON, "{:?}", committed.elapsed());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_listens_again_when_its_connection_was_cut() {
    let fixture = Postgres::start().await;
    let (running, broker) = listening(&fixture).await;

    let sql = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(fixture.texts(sql).await, ["true"]);
    // Nobody tells the relay of this one, unless it listens already.
    fixture.write(&events(&["unheard"])).await;

    eventually(DEADLINE, async || broker.taken() == ["first", "unheard"]).await;
    eventually(DEADLINE, async || sessions_that_listen(&fixture).await == 1).await;
    fixture.write(&events(&["heard"])).await;
    eventually(DEADLINE, async || broker.taken().len() == 3).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_notifications_polls() {
    let fixture = Postgres::start().await;
    let broker = Broker::default();
    let outbox = PgOutbox::builder(fixture.database.url()).notify(false);
    let relay = Relay::builder(outbox.connect().await.unwrap(), broker.clone());
    let running = Running::start(relay.poll_interval(Duration::from_millis(50)));

    fixture.write(&events(&["1"])).await;

    eventually(DEADLINE, async || broker.taken() == ["1"]).await;
    always(Duration::from_millis(300), async || {
        sessions_that_listen(&fixture).await == 0
    })
    .await;
    running.stop().await;
}
