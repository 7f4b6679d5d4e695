//! R1, R3 and R4: Redis is away, is another's replica now, or does not answer.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use eventflow::Sink;
use eventflow_tests::{
    eventually,
    proxy::{Direction, Proxy},
    redis::RedisServer,
    running::Running,
    shop::{Database, GROUP, OnPostgres, Script, order},
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tracing::Level;

use super::{
    DEADLINE,
    redis_shop::{READER, RedisShop, alone, assign, reader},
};
use crate::consumer::logs::capture;

on_every_database!(r4_a_server_that_stands_still_is_given_up_and_read_on);

on_postgres!(
    #[tokio::test]
    r1_a_killed_server_loses_nothing_and_what_is_stored_is_handled_meanwhile,
    r3_a_demoted_master_is_left_for_the_new_one_and_what_comes_twice_is_handled_once,
    r3_a_replica_without_its_master_is_left_for_the_new_one,
    r4_a_network_that_swallows_everything_is_given_up_and_read_through_later,
    r4_a_half_open_connection_is_given_up_and_what_it_was_assigned_is_read_first,
    r4_entries_of_an_answer_that_was_cut_are_read_first,
);

/// Orders are handled as permits allow; their event ids are noted in that order.
fn noting<D: Database>(permits: &Arc<Semaphore>, handled: &Arc<Mutex<Vec<String>>>) -> Script<D> {
    let (permits, handled) = (Arc::clone(permits), Arc::clone(handled));
    Script::new().on_order(move |mut call| {
        let (permits, handled) = (Arc::clone(&permits), Arc::clone(&handled));
        async move {
            permits.acquire().await.unwrap().forget();
            handled.lock().unwrap().push(call.meta.event_id.clone());
            call.write().await
        }
        .boxed()
    })
}

async fn read_waits(redis: &RedisServer) -> bool {
    let clients: String = redis.run(&["INFO", "clients"]).await;
    clients.contains("blocked_clients:1")
}

async fn r1_a_killed_server_loses_nothing_and_what_is_stored_is_handled_meanwhile<D: OnPostgres>() {
    let stored = ["a0", "a1", "a2", "a3", "a4", "a5"];

    let mut shop = RedisShop::<D>::open().await;
    let mut proxy = Proxy::start(shop.redis.port()).await;
    let permits = Arc::new(Semaphore::new(0));
    let handled = Arc::default();
    let url = proxy.url(&shop.redis.url());
    let group = ["XGROUP", "CREATE", "shop", GROUP, "0", "MKSTREAM"];
    let _: String = shop.redis.run(&group).await;
    shop.add_orders(&stored).await;
    let consumer = shop.reader(url, noting(&permits, &handled)).await;
    let running = Running::start(consumer.build().unwrap());
    if D::MODE.inline {
        // They are acknowledged when they are handled; the first read has got them all.
        let has_read = async || running.health().last_read.is_some();
        eventually(DEADLINE, has_read).await;
    } else {
        eventually(DEADLINE, async || shop.is_done().await).await;
    }
    proxy.refuse().await;
    proxy.cut();
    alone(&shop.redis).await;
    shop.add_orders(&["b0", "b1", "b2", "c0"]).await;
    assign(&shop.redis, READER, "3").await;

    shop.redis.kill();
    permits.add_permits(stored.len());
    eventually(DEADLINE, async || shop.shop.effects().await == stored).await;
    shop.redis.start_again().await;
    proxy.accept().await;
    permits.add_permits(10);
    shop.await_effects(&[&stored[..], &["b0", "b1", "b2", "c0"]].concat())
        .await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.processed), (10, 10), "{report}");
    let mut handled = handled.lock().unwrap().split_off(stored.len());
    if D::MODE.inline {
        // What comes a second time is stored first, and a fresh batch need not wait for that.
        handled.sort();
    }
    assert_eq!(*handled, ["b0", "b1", "b2", "c0"]);
}

/// Makes a replica of a server, and waits until it has everything.
async fn replica_of(master: &RedisServer) -> RedisServer {
    let replica = RedisServer::start().await;
    follow(&replica, master.port()).await;
    eventually(DEADLINE, async || {
        let state: String = replica.run(&["INFO", "replication"]).await;
        state.contains("master_link_status:up")
    })
    .await;
    replica
}

async fn follow(replica: &RedisServer, master: u16) {
    let master = master.to_string();
    let _: String = replica.run(&["REPLICAOF", "127.0.0.1", &master]).await;
}

/// Connections to the old master stay open: they are dropped for what it says, although it answers
/// PING.
async fn demoted<D: OnPostgres>(settings: &[[&str; 2]], follows: impl Fn(&RedisServer) -> u16) {
    let (_here, logs) = capture(Level::WARN);
    let mut shop = RedisShop::<D>::open().await;
    let group = ["XGROUP", "CREATE", "shop", GROUP, "0", "MKSTREAM"];
    let _: String = shop.redis.run(&group).await;
    shop.add_orders(&["a0", "a1"]).await;
    // It has the entries, but not that they were read.
    let new = replica_of(&shop.redis).await;
    let _: String = new.run(&["REPLICAOF", "NO", "ONE"]).await;
    let proxy = Proxy::start(shop.redis.port()).await;
    let url = proxy.url(&shop.redis.url());
    let sink = reader(&*url).connect().await.unwrap();
    let consumer = shop.reader(url, Script::new()).await;
    let running = Running::start(consumer.build().unwrap());
    shop.await_effects(&["a0", "a1"]).await;

    for [name, value] in settings {
        let _: String = shop.redis.run(&["CONFIG", "SET", name, value]).await;
    }
    follow(&shop.redis, follows(&new)).await;
    let refused = sink.send(&[order(1)]).await.unwrap_err();
    eventually(DEADLINE, async || {
        logs.text().contains("reading the stream")
    })
    .await;
    proxy.redirect(new.port());
    let _old = std::mem::replace(&mut shop.redis, new);
    eventually(DEADLINE, async || sink.send(&[order(1)]).await.is_ok()).await;
    shop.await_effects(&["a0", "a1", "order-1"]).await;
    let report = running.stop().await;

    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!((report.stored, report.duplicates), (3, 2), "{report}");
    assert_eq!(logs.text().matches("has gone back").count(), 1);
}

async fn r3_a_demoted_master_is_left_for_the_new_one_and_what_comes_twice_is_handled_once<
    D: OnPostgres,
>() {
    demoted::<D>(&[], RedisServer::port).await;
}

async fn r3_a_replica_without_its_master_is_left_for_the_new_one<D: OnPostgres>() {
    let settings = [
        ["replica-read-only", "no"],
        ["replica-serve-stale-data", "no"],
    ];
    demoted::<D>(&settings, |_| 1).await;
}

async fn r4_a_server_that_stands_still_is_given_up_and_read_on<D: Database>() {
    const PATIENCE: Duration = Duration::from_secs(10);

    let mut shop = RedisShop::<D>::open().await;
    let consumer = shop.reader(shop.redis.url(), Script::new()).await;
    let running = Running::start(consumer.build().unwrap());
    let sink = reader(shop.redis.url()).connect().await.unwrap();
    eventually(DEADLINE, async || read_waits(&shop.redis).await).await;

    shop.redis.pause();
    let paused = Instant::now();
    let unanswered = sink.send(&[order(1)]).await.unwrap_err();
    assert!(unanswered.is_transient(), "{unanswered:?}");
    assert!(paused.elapsed() < PATIENCE);
    shop.redis.resume();
    // Whether it was published is unknown, so it is published again.
    sink.send(&[order(1)]).await.unwrap();
    shop.await_effects(&["order-1"]).await;

    shop.redis.pause();
    let stopped = Instant::now();
    let report = running.stop().await;
    assert!(stopped.elapsed() < PATIENCE);
    assert_eq!((report.stored, report.processed), (1, 1), "{report}");
}

/// What was sent into the hole may reach the server when the network is back, and take entries that
/// nobody then hears of. They are claimed as those of a consumer that died.
async fn r4_a_network_that_swallows_everything_is_given_up_and_read_through_later<D: OnPostgres>() {
    let (_here, logs) = capture(Level::WARN);
    let shop = RedisShop::<D>::open().await;
    let proxy = Proxy::start(shop.redis.port()).await;
    let url = proxy.url(&shop.redis.url());
    let consumer = shop.reader(url, Script::new()).await;
    let consumer = consumer.claim_idle(Duration::from_secs(2));
    let running = Running::start(consumer.build().unwrap());
    shop.add_orders(&["a0"]).await;
    shop.await_effects(&["a0"]).await;

    proxy.stall();
    shop.add_orders(&["b0", "b1"]).await;
    eventually(DEADLINE, async || {
        let logs = logs.text();
        logs.contains("reading the stream") && logs.contains("claiming entries")
    })
    .await;
    proxy.flow();
    shop.await_effects(&["a0", "b0", "b1"]).await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.processed), (3, 3), "{report}");
}

/// The server waits on the old connection and assigns the entry to it, which nobody hears.
async fn r4_a_half_open_connection_is_given_up_and_what_it_was_assigned_is_read_first<
    D: OnPostgres,
>() {
    let (_here, logs) = capture(Level::WARN);
    let shop = RedisShop::<D>::open().await;
    let proxy = Proxy::start(shop.redis.port()).await;
    let url = proxy.url(&shop.redis.url());
    let consumer = shop.reader(url, Script::new()).await;
    let consumer = consumer.block(Duration::from_secs(2));
    let running = Running::start(consumer.build().unwrap());
    shop.add_orders(&["a0"]).await;
    shop.await_effects(&["a0"]).await;
    eventually(DEADLINE, async || read_waits(&shop.redis).await).await;

    proxy.forget();
    shop.add_orders(&["b0", "b1"]).await;
    eventually(DEADLINE, async || shop.pending().await > 0).await;
    assert_eq!(logs.text(), "");
    shop.await_effects(&["a0", "b0", "b1"]).await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.processed), (3, 3), "{report}");
    assert!(
        logs.text().contains("reading the stream"),
        "{}",
        logs.text()
    );
}

/// It is the reader's: no other answer names an event.
async fn r4_entries_of_an_answer_that_was_cut_are_read_first<D: OnPostgres>() {
    let (_here, logs) = capture(Level::WARN);
    let shop = RedisShop::<D>::open().await;
    let proxy = Proxy::start(shop.redis.port()).await;
    let url = proxy.url(&shop.redis.url());
    let handled = Arc::default();
    let script = noting(&Arc::new(Semaphore::new(10)), &handled);
    let consumer = shop.reader(url, script).await;
    let consumer = consumer.block(Duration::from_secs(30)).workers(1);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || read_waits(&shop.redis).await).await;

    proxy.cut_before(Direction::ToClient, "b0");
    shop.add_orders(&["b0", "b1", "b2"]).await;
    shop.await_effects(&["b0", "b1", "b2"]).await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.processed), (3, 3), "{report}");
    let mut handled = handled.lock().unwrap().clone();
    if D::MODE.inline {
        // What comes a second time is stored first, and a fresh batch need not wait for that.
        handled.sort();
    }
    assert_eq!(handled, ["b0", "b1", "b2"]);
    assert!(
        logs.text().contains("reading the stream"),
        "{}",
        logs.text()
    );
}

/// The kernel's table says which timer of a connection is running: 02 is that of the probes.
#[tokio::test]
async fn r4_an_idle_connection_is_probed() {
    let redis = RedisServer::start().await;
    let _stream = reader(redis.url()).connect().await.unwrap();

    let server = format!(":{:04X}", redis.port());
    eventually(DEADLINE, async || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        connections.lines().any(|connection| {
            let columns: Vec<&str> = connection.split_whitespace().collect();
            columns[2].ends_with(&server) && columns[5].starts_with("02:")
        })
    })
    .await;
}
