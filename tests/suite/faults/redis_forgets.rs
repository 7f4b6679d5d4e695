//! R2 and R6: Redis has lost the group, the stream, or entries that were not acknowledged.

use std::time::Duration;

use eventflow_tests::{
    eventually,
    proxy::Proxy,
    redis::RedisServer,
    running::Running,
    shop::{Database, GROUP, OnPostgres, Script},
};
use tracing::Level;

use super::{
    DEADLINE,
    redis_shop::{READER, RedisShop, alone, assign, calls_in_a_while},
};
use crate::consumer::logs::capture;

on_every_database!(
    r6_entries_trimmed_before_they_were_stored_are_counted_and_acknowledged,
    r6_own_entries_that_were_trimmed_are_acknowledged_when_they_are_read,
);

on_postgres!(
    #[tokio::test]
    r2_flushall_is_logged_once_and_read_on,
    r2_a_deleted_stream_is_logged_once_and_read_on,
    r2_a_server_that_restarts_with_nothing_is_logged_once_and_read_on,
    r2_ids_that_go_backwards_are_logged_once,
);

const LOST: &str = "the group was lost at the server";

/// Runs a consumer through a loss; what was added before it and after it has one effect each.
async fn survives<D: OnPostgres>(redis: RedisServer, lose: impl AsyncFn(&mut RedisServer)) {
    let (_here, logs) = capture(Level::ERROR);
    let mut shop = RedisShop::<D>::open_with(redis).await;
    let consumer = shop.reader(shop.redis.url(), Script::new()).await;
    let running = Running::start(consumer.build().unwrap());
    shop.add_orders(&["a0", "a1"]).await;
    shop.await_effects(&["a0", "a1"]).await;

    lose(&mut shop.redis).await;
    shop.add_orders(&["a1", "b0"]).await;
    shop.await_effects(&["a0", "a1", "b0"]).await;
    let calls = calls_in_a_while(&shop.redis).await;
    shop.add_orders(&["c0"]).await;
    shop.await_effects(&["a0", "a1", "b0", "c0"]).await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.duplicates), (4, 1), "{report}");
    assert_eq!(logs.text().matches(LOST).count(), 1, "{}", logs.text());
    assert_eq!(logs.text().lines().count(), 1, "{}", logs.text());
    assert!(calls < 100, "{calls}");
}

async fn r2_flushall_is_logged_once_and_read_on<D: OnPostgres>() {
    survives::<D>(RedisServer::start().await, async |redis| {
        let _: String = redis.run(&["FLUSHALL"]).await;
    })
    .await;
}

async fn r2_a_deleted_stream_is_logged_once_and_read_on<D: OnPostgres>() {
    survives::<D>(RedisServer::start().await, async |redis| {
        let _: i64 = redis.run(&["DEL", "shop"]).await;
    })
    .await;
}

async fn r2_a_server_that_restarts_with_nothing_is_logged_once_and_read_on<D: OnPostgres>() {
    let forgetful = RedisServer::start_with(&["--appendonly", "no"]).await;
    survives::<D>(forgetful, async |redis| {
        redis.kill();
        redis.start_again().await;
    })
    .await;
}

/// Another consumer made the group again, so only the ids tell.
async fn r2_ids_that_go_backwards_are_logged_once<D: OnPostgres>() {
    let (_here, logs) = capture(Level::ERROR);
    let shop = RedisShop::<D>::open().await;
    let consumer = shop.reader(shop.redis.url(), Script::new()).await;
    let running = Running::start(consumer.build().unwrap());
    shop.add_orders(&["a0", "a1"]).await;
    shop.await_effects(&["a0", "a1"]).await;

    let set_back = ["XGROUP", "SETID", "shop", GROUP, "0"];
    let _: String = shop.redis.run(&set_back).await;
    shop.add_orders(&["b0"]).await;
    shop.await_effects(&["a0", "a1", "b0"]).await;
    let report = running.stop().await;

    assert_eq!((report.stored, report.duplicates), (3, 2), "{report}");
    let logs = logs.text();
    assert_eq!(logs.matches("has gone back").count(), 1, "{logs}");
    assert_eq!(logs.lines().count(), 1, "{logs}");
}

/// Two were left pending under the reader's own name, three under another's.
async fn r6_entries_trimmed_before_they_were_stored_are_counted_and_acknowledged<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let group = ["XGROUP", "CREATE", "shop", GROUP, "0", "MKSTREAM"];
    let _: String = shop.redis.run(&group).await;
    shop.add_orders(&["a0", "a1", "b0", "b1", "b2", "c0"]).await;
    for (name, count) in [(READER, "2"), ("another", "3")] {
        assign(&shop.redis, name, count).await;
    }
    let _: i64 = shop.redis.run(&["XTRIM", "shop", "MAXLEN", "1"]).await;
    assert_eq!(shop.pending().await, 5);

    let consumer = shop.reader(shop.redis.url(), Script::new()).await;
    let consumer = consumer.claim_idle(Duration::from_millis(40));
    let running = Running::start(consumer.build().unwrap());
    shop.await_effects(&["c0"]).await;
    eventually(DEADLINE, async || shop.pending().await == 0).await;
    let report = running.stop().await;

    // Reading and taking over may both meet the two before they are acknowledged.
    assert!((5..=7).contains(&report.trimmed), "{report}");
    assert_eq!(report.stored, 1, "{report}");
    assert_eq!((report.malformed, report.dead_lettered), (0, 0), "{report}");
    assert_eq!(shop.shop.counts().await.dead_letter, 0);
}

/// A claim would make the server forget them: the next one is a quarter of an hour away when they
/// come to be pending, while the reader is away.
async fn r6_own_entries_that_were_trimmed_are_acknowledged_when_they_are_read<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let mut proxy = Proxy::start(shop.redis.port()).await;
    let url = proxy.url(&shop.redis.url());
    let consumer = shop.reader(url, Script::new()).await;
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || {
        let stats: String = shop.redis.run(&["INFO", "commandstats"]).await;
        stats.contains("cmdstat_xautoclaim:calls=1,")
    })
    .await;
    proxy.refuse().await;
    proxy.cut();
    alone(&shop.redis).await;
    shop.add_orders(&["a0", "a1", "c0"]).await;
    assign(&shop.redis, READER, "2").await;
    let _: i64 = shop.redis.run(&["XTRIM", "shop", "MAXLEN", "1"]).await;

    proxy.accept().await;
    shop.await_effects(&["c0"]).await;
    let report = running.stop().await;

    assert_eq!((report.trimmed, report.stored), (2, 1), "{report}");
    assert_eq!((report.malformed, report.dead_lettered), (0, 0), "{report}");
}
