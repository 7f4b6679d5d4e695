//! R5 and R7: Redis has no memory left, or does not let the consumer do its work.

use std::time::Duration;

use eventflow::{Consumer, ErrorKind, Sink, stream::RedisStreamBuilder};
use eventflow_tests::{
    always, eventually,
    running::Running,
    shop::{OnPostgres, Postgres, Script, order, router},
};
use tracing::Level;

use super::{
    DEADLINE,
    redis_shop::{RedisShop, calls_in_a_while, reader},
};
use crate::consumer::logs::capture;

on_postgres!(
    #[tokio::test]
    r5_a_full_server_is_read_on_and_published_to_when_it_has_memory_again,
    r7_a_key_that_is_no_stream_is_waited_out_later,
    r7_a_missing_permission_is_waited_out_later,
    r7_a_missing_permission_to_acknowledge_stops_the_reading,
    r7_a_password_that_is_another_is_waited_out_later,
);

/// A server that is full refuses new entries; those that it has are handled and acknowledged.
async fn r5_a_full_server_is_read_on_and_published_to_when_it_has_memory_again<D: OnPostgres>() {
    let shop = RedisShop::<D>::open().await;
    let sink = reader(shop.redis.url()).connect().await.unwrap();
    let consumer = shop.reader(shop.redis.url(), Script::new()).await;
    shop.add_orders(&["a0", "a1"]).await;
    let group = ["XGROUP", "CREATE", "shop", "shop", "0"];
    let _: String = shop.redis.run(&group).await;

    let _: String = shop.redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let running = Running::start(consumer.build().unwrap());
    let refused = sink.send(&[order(1)]).await.unwrap_err();
    shop.await_effects(&["a0", "a1"]).await;
    let _: String = shop.redis.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    sink.send(&[order(1)]).await.unwrap();
    shop.await_effects(&["a0", "a1", "order-1"]).await;
    let report = running.stop().await;

    assert_eq!(refused.kind(), ErrorKind::Stream);
    assert!(refused.is_transient(), "{refused:?}");
    assert_eq!((report.stored, report.duplicates), (3, 0), "{report}");
}

/// A fault that does not pass by itself: the commands that make it, and those that mend it.
struct Refusal {
    make: &'static [&'static [&'static str]],
    mend: &'static [&'static [&'static str]],
    says: &'static str,
}

impl Refusal {
    async fn run(shop: &RedisShop<impl OnPostgres>, commands: &[&[&str]]) {
        for command in commands {
            let _: deadpool_redis::redis::Value = shop.redis.run(command).await;
        }
    }

    /// A reader with a user of its own, so that the test's connections work.
    async fn stream(shop: &RedisShop<impl OnPostgres>) -> RedisStreamBuilder {
        let user = ["ACL", "SETUSER", "service", "on", ">right", "~*", "+@all"];
        let _: String = shop.redis.run(&user).await;
        reader(format!(
            "redis://service:right@127.0.0.1:{}",
            shop.redis.port()
        ))
    }

    /// At the start a refusal ends the consumer with an error.
    async fn ends_the_start(&self) {
        let shop = RedisShop::<Postgres>::open().await;
        let stream = Self::stream(&shop).await;
        Self::run(&shop, self.make).await;

        let started = async {
            let stream = stream.connect().await?;
            let consumer =
                Consumer::builder(stream, shop.shop.inbox(), router(Script::<Postgres>::new()));
            consumer
                .build()?
                .run_until(std::future::pending::<()>())
                .await
        };
        let error = tokio::time::timeout(DEADLINE, started).await.unwrap();

        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stream);
        assert!(!error.is_transient(), "{error:?}");
        assert!(error.to_string().contains(self.says), "{error}");
    }

    /// Later the consumer tries on at leisure, says so once, and goes on when it is mended.
    async fn is_waited_out<D: OnPostgres>(&self) {
        let (_here, logs) = capture(Level::WARN);
        let shop = RedisShop::<D>::open().await;
        let stream = Self::stream(&shop).await;
        let consumer = shop
            .consumer_of(stream, shop.shop.inbox(), Script::new())
            .await;
        let running = Running::start(consumer.build().unwrap());
        shop.add_orders(&["a0"]).await;
        shop.await_effects(&["a0"]).await;

        Self::run(&shop, self.make).await;
        eventually(DEADLINE, async || logs.text().contains(self.says)).await;
        let calls = calls_in_a_while(&shop.redis).await;
        Self::run(&shop, self.mend).await;
        shop.add_orders(&["b0"]).await;
        shop.await_effects(&["a0", "b0"]).await;
        let report = running.stop().await;

        assert_eq!((report.stored, report.processed), (2, 2), "{report}");
        // Two loops, each some tries of a few commands.
        assert!(calls < 150, "{calls}");
        let logs = logs.text();
        let told = logs.matches("failed; trying again").count();
        assert!((1..=2).contains(&told), "{logs}");
    }
}

const WRONG_TYPE: Refusal = Refusal {
    make: &[&["SET", "shop", "7"]],
    mend: &[&["DEL", "shop"]],
    says: "other than a stream",
};

const NO_PERMISSION: Refusal = Refusal {
    make: &[&["ACL", "SETUSER", "service", "-xreadgroup", "-xgroup"]],
    mend: &[&["ACL", "SETUSER", "service", "+xreadgroup", "+xgroup"]],
    says: "permission",
};

const OTHER_PASSWORD: Refusal = Refusal {
    make: &[
        &["ACL", "SETUSER", "service", "resetpass", ">other"],
        &["CLIENT", "KILL", "USER", "service"],
    ],
    mend: &[&["ACL", "SETUSER", "service", ">right"]],
    says: "user or password",
};

#[tokio::test]
async fn r7_a_key_that_is_no_stream_ends_the_start() {
    WRONG_TYPE.ends_the_start().await;
}

async fn r7_a_key_that_is_no_stream_is_waited_out_later<D: OnPostgres>() {
    WRONG_TYPE.is_waited_out::<D>().await;
}

#[tokio::test]
async fn r7_a_missing_permission_ends_the_start() {
    NO_PERMISSION.ends_the_start().await;
}

async fn r7_a_missing_permission_is_waited_out_later<D: OnPostgres>() {
    NO_PERMISSION.is_waited_out::<D>().await;
}

#[tokio::test]
async fn r7_a_password_that_is_another_ends_the_start() {
    OTHER_PASSWORD.ends_the_start().await;
}

async fn r7_a_password_that_is_another_is_waited_out_later<D: OnPostgres>() {
    OTHER_PASSWORD.is_waited_out::<D>().await;
}

/// What is stored is handled, and does not pile up unacknowledged.
async fn r7_a_missing_permission_to_acknowledge_stops_the_reading<D: OnPostgres>() {
    const ORDERS: u32 = 3_000;
    let shop = RedisShop::<D>::open().await;
    let stream = Refusal::stream(&shop).await;
    let _: String = shop
        .redis
        .run(&["ACL", "SETUSER", "service", "-xack"])
        .await;
    let consumer = shop
        .consumer_of(stream, shop.shop.inbox(), Script::new())
        .await;
    shop.orders(0..ORDERS).await;

    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.shop.counts().await.processed > 0).await;
    // Beside the 1,000, a batch that is read, six that wait, and one with each worker.
    always(Duration::from_secs(5), async || {
        shop.pending().await < 2_600
    })
    .await;
    let _: String = shop
        .redis
        .run(&["ACL", "SETUSER", "service", "+xack"])
        .await;
    eventually(DEADLINE, async || shop.is_done().await).await;
    let report = running.stop().await;

    let orders = u64::from(ORDERS);
    assert_eq!((report.stored, report.duplicates), (orders, 0), "{report}");
}
