//! The consumer maintains its stream: at the start, and now and then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eventflow::{
    Consumer, Error, ErrorKind, RedisStream,
    prelude::*,
    stream::{Batch, EntryId, Source},
};
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    running::Running,
    shop::{Script, Shop, Sqlite, order, router},
};
use tracing::Level;

use super::{DEADLINE, logs::capture};

#[tokio::test]
async fn the_stream_is_trimmed_and_the_dead_leave_its_group() {
    let server = RedisServer::start_with(&["--stream-node-max-entries", "1"]).await;
    let shop = Shop::<Sqlite>::open().await;
    let start = async |name: &str| {
        let stream = RedisStream::builder(server.url())
            .sharded("orders", 2)
            .group("shop")
            .consumer(name)
            .trim_acknowledged()
            .remove_consumers_after(Duration::from_millis(1));
        let stream = stream.connect().await.unwrap();
        let consumer = Consumer::builder(
            stream.clone(),
            shop.inbox(),
            router(Script::<Sqlite>::new()),
        );
        (stream, Running::start(consumer.build().unwrap()))
    };
    let shards = ["orders:{0}", "orders:{1}"];
    let events: Vec<_> = (0..20).map(order).collect();
    let (stream, first) = start("first").await;
    stream.send(&events).await.unwrap();
    eventually(DEADLINE, async || shop.counts().await.processed == 20).await;
    first.stop().await;

    let (_, second) = start("second").await;

    for shard in shards {
        eventually(DEADLINE, async || {
            let left: i64 = server.run(&["XLEN", shard]).await;
            let words = ["XINFO", "CONSUMERS", shard, "shop"];
            let consumers: Vec<Vec<deadpool_redis::redis::Value>> = server.run(&words).await;
            left == 1 && consumers.len() == 1
        })
        .await;
    }
    second.stop().await;
    assert_eq!(shop.effects().await.len(), 20);
}

/// A stream that fails the first times that it is to be maintained.
struct Ailing {
    stream: MemoryStream,
    failures: usize,
    tries: Arc<AtomicUsize>,
}

impl Source for Ailing {
    fn group(&self) -> &str {
        Source::group(&self.stream)
    }

    async fn open(&self) -> Result<(), Error> {
        self.stream.open().await
    }

    async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch, Error> {
        self.stream.read(count, block).await
    }

    async fn interrupt(&self) {
        self.stream.interrupt().await;
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        self.stream.acknowledge(ids).await
    }

    async fn claim(&self, min_idle: Duration, count: usize) -> Result<Batch, Error> {
        self.stream.claim(min_idle, count).await
    }

    async fn maintain(&self) -> Result<(), Error> {
        if self.tries.fetch_add(1, Ordering::Relaxed) < self.failures {
            return Err(Error::new(ErrorKind::Stream, "the server refuses"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failure_to_maintain_the_stream_is_told_once_and_tried_again() {
    let (_here, logs) = capture(Level::INFO);
    let shop = Shop::<Sqlite>::open().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let stream = Ailing {
        stream: shop.stream.clone(),
        failures: 3,
        tries: Arc::clone(&tries),
    };
    let consumer = Consumer::builder(stream, shop.inbox(), router(Script::<Sqlite>::new()));
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || tries.load(Ordering::Relaxed) == 1).await;

    tokio::time::pause();
    for round in 2..=5 {
        tokio::time::advance(Duration::from_secs(90)).await;
        eventually(DEADLINE, async || tries.load(Ordering::Relaxed) >= round).await;
    }
    tokio::time::resume();
    shop.orders(0..1).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    running.stop().await;

    let text = logs.text();
    assert_eq!(text.matches("could not be maintained").count(), 1, "{text}");
    assert_eq!(text.matches("can be maintained again").count(), 1, "{text}");
}
