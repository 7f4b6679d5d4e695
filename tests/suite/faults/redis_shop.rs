//! The shop behind a real Redis: what arrives there are bytes, not envelopes.

use std::{ops::Range, time::Duration};

use deadpool_redis::redis::{
    self,
    aio::MultiplexedConnection,
    streams::{StreamInfoGroup, StreamInfoGroupsReply, StreamInfoStreamReply},
};
use eventflow::{
    Consumer, RedisStream, Report, Sink, consumer::ConsumerBuilder, stream::RedisStreamBuilder,
};
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    shop::{self, Database, GROUP, Script, Shop, ShopRouter, in_an_hour, router},
};

pub(super) const ORDER_ID: &str = "7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10";

/// The name under which a shop's consumer reads.
pub(super) const READER: &str = "reader";

/// A builder of the shop's consumers.
pub(super) type RedisConsumer<D> =
    ConsumerBuilder<RedisStream, <D as Database>::Inbox, ShopRouter<D>>;

/// Names and values of one entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A Redis with the stream `shop`, and the shop's inbox and effects.
pub(super) struct RedisShop<D: Database> {
    pub(super) redis: RedisServer,
    pub(super) shop: Shop<D>,
}

impl<D: Database> RedisShop<D> {
    pub(super) async fn open() -> Self {
        Self::open_with(RedisServer::start().await).await
    }

    pub(super) async fn open_with(redis: RedisServer) -> Self {
        let shop = Shop::open().await;
        Self { redis, shop }
    }

    /// Adds entries as they are; answers their ids.
    pub(super) async fn add(&self, entries: &[Fields]) -> Vec<String> {
        let mut pipeline = redis::pipe();
        for fields in entries {
            pipeline.cmd("XADD").arg("shop").arg("*");
            for (name, value) in fields {
                pipeline.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        pipeline
            .query_async(&mut self.connection().await)
            .await
            .unwrap()
    }

    /// Publishes orders with these numbers.
    pub(super) async fn orders(&self, numbers: Range<u32>) {
        let sink = RedisStream::builder(self.redis.url()).stream("shop");
        let envelopes: Vec<_> = numbers.map(shop::order).collect();
        let sink = sink.connect().await.unwrap();
        sink.send(&envelopes).await.unwrap();
    }

    /// Adds an entry with one field, which the server fills with so many `x`.
    pub(super) async fn add_filled(&self, name: &str, bytes: usize) -> String {
        redis::cmd("EVAL")
            .arg("return redis.call('XADD', 'shop', '*', ARGV[1], string.rep('x', ARGV[2]))")
            .arg((0, name, bytes))
            .query_async(&mut self.connection().await)
            .await
            .unwrap()
    }

    /// A connection with time for large entries.
    async fn connection(&self) -> MultiplexedConnection {
        let mut connection = self.redis.connection().await;
        connection.set_response_timeout(Duration::from_mins(1));
        connection
    }

    /// A consumer of its own, whose retries are due in an hour.
    pub(super) async fn consumer(&self, script: Script<D>) -> RedisConsumer<D> {
        self.consumer_with(self.shop.inbox(), script).await
    }

    /// As [`consumer`](Self::consumer), with a way of its own to the database.
    pub(super) async fn consumer_with(
        &self,
        inbox: D::Inbox,
        script: Script<D>,
    ) -> RedisConsumer<D> {
        let stream = RedisStream::builder(self.redis.url())
            .stream("shop")
            .group(GROUP);
        self.consumer_of(stream, inbox, script).await
    }

    /// As [`consumer`](Self::consumer), with ways of its own to Redis and the database.
    pub(super) async fn consumer_of(
        &self,
        stream: RedisStreamBuilder,
        inbox: D::Inbox,
        script: Script<D>,
    ) -> RedisConsumer<D> {
        let stream = stream.connect().await.unwrap();
        D::MODE
            .set(Consumer::builder(stream, inbox, router(script)))
            .backoff(in_an_hour())
            .poll_interval(Duration::from_millis(20))
    }

    /// A consumer that reads as [`READER`] from the server at this URL, has little patience with
    /// it, and leaves alone what is pending under other names.
    pub(super) async fn reader(&self, url: String, script: Script<D>) -> RedisConsumer<D> {
        let consumer = self
            .consumer_of(reader(url), self.shop.inbox(), script)
            .await;
        consumer
            .workers(1)
            .block(Duration::from_millis(200))
            .claim_idle(Duration::from_hours(1))
    }

    /// Waits until exactly these events have their effects, and nothing is left pending.
    pub(super) async fn await_effects(&self, event_ids: &[&str]) {
        eventually(super::DEADLINE, async || {
            self.shop.effects().await == event_ids && self.is_done().await
        })
        .await;
    }

    /// Adds orders that can be handled.
    pub(super) async fn add_orders(&self, event_ids: &[&str]) {
        let orders: Vec<_> = event_ids.iter().map(|id| good_order(id)).collect();
        self.add(&orders).await;
    }

    /// Handles everything that is there, orders by writing their effect.
    pub(super) async fn drain(&self) -> Report {
        let consumer = self.consumer(Script::new()).await.build().unwrap();
        consumer.drain().await.unwrap()
    }

    /// Whether the group was given every entry, and has acknowledged each.
    pub(super) async fn is_done(&self) -> bool {
        let groups: StreamInfoGroupsReply = self.redis.run(&["XINFO", "GROUPS", "shop"]).await;
        let stream: StreamInfoStreamReply = self.redis.run(&["XINFO", "STREAM", "shop"]).await;
        let is_done = |group: &StreamInfoGroup| {
            group.pending == 0 && group.last_delivered_id == stream.last_generated_id
        };
        !groups.groups.is_empty() && groups.groups.iter().all(is_done)
    }

    /// How many entries are not acknowledged.
    pub(super) async fn pending(&self) -> i64 {
        let reply: Vec<redis::Value> = self.redis.run(&["XPENDING", "shop", GROUP]).await;
        redis::from_redis_value(reply[0].clone()).unwrap()
    }

    /// The bytes that are kept of an entry that could not be read.
    pub(super) async fn raw(&self, entry_id: &str) -> Vec<u8> {
        let event_id = format!("malformed:shop/{entry_id}");
        let letters = self.shop.dead_letters().await;
        let letter = letters
            .into_iter()
            .find(|letter| letter.envelope.metadata().event_id == event_id);
        letter.unwrap().raw.unwrap()
    }
}

/// The shop's stream as [`READER`] of its group.
pub(super) fn reader(url: impl Into<String>) -> RedisStreamBuilder {
    RedisStream::builder(url)
        .stream("shop")
        .group(GROUP)
        .consumer(READER)
        .command_timeout(Duration::from_millis(500))
}

/// How many commands a server is sent in two seconds of its own time.
pub(super) async fn calls_in_a_while(redis: &RedisServer) -> u64 {
    let _: String = redis.run(&["CONFIG", "RESETSTAT"]).await;
    let mut connection = redis.connection().await;
    connection.set_response_timeout(Duration::from_mins(1));
    let _: redis::Value = redis::cmd("BLPOP")
        .arg(("no key", 2))
        .query_async(&mut connection)
        .await
        .unwrap();
    let stats: String = redis.run(&["INFO", "commandstats"]).await;
    let counts = stats.split([',', ':']).filter_map(|part| {
        let (name, count) = part.split_once('=')?;
        let counts = ["calls", "rejected_calls"].contains(&name);
        counts.then(|| count.trim().parse::<u64>().unwrap())
    });
    counts.sum()
}

/// An entry with one field `data`.
pub(super) fn data(value: impl AsRef<[u8]>) -> Fields {
    vec![(b"data".to_vec(), value.as_ref().to_vec())]
}

/// A flattened order with this payload.
pub(super) fn order(event_id: &str, payload: impl AsRef<[u8]>) -> Fields {
    order_with(event_id, "payload", payload)
}

/// A flattened order that can be handled.
pub(super) fn good_order(event_id: &str) -> Fields {
    order(
        event_id,
        format!(r#"{{"order_id":"{ORDER_ID}","number":1}}"#),
    )
}

/// A flattened order that could be handled but for one field.
pub(super) fn order_with(event_id: &str, name: &str, value: impl AsRef<[u8]>) -> Fields {
    let payload = format!(r#"{{"order_id":"{ORDER_ID}","number":1}}"#);
    let mut fields: Fields = [
        ("event_id", event_id),
        ("event_type", "OrderPlaced"),
        ("aggregate_id", ORDER_ID),
        ("occurred_on", "2026-01-01T00:00:00Z"),
        ("payload", &payload),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let value = value.as_ref().to_vec();
    match fields
        .iter_mut()
        .find(|(field, _)| field == name.as_bytes())
    {
        Some(field) => field.1 = value,
        None => fields.push((name.into(), value)),
    }
    fields
}

/// Assigns so many new entries to a consumer, as an answer does that it never gets.
pub(super) async fn assign(redis: &RedisServer, consumer: &str, count: &str) {
    let words = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count];
    let words = [&words[..], &["STREAMS", "shop", ">"]].concat();
    let _: redis::Value = redis.run(&words).await;
}

/// Waits until nobody else is connected.
pub(super) async fn alone(redis: &RedisServer) {
    eventually(super::DEADLINE, async || {
        let clients: String = redis.run(&["INFO", "clients"]).await;
        clients.contains("connected_clients:1\r")
    })
    .await;
}
