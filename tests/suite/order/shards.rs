//! A sharded stream, whose shards one process reads, or two.

use eventflow::{Consumer, Envelope, RedisStream, Sink as _};
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    running::Running,
    shop::{GROUP, Owned, Postgres, router, soon},
};

use super::{DEADLINE, Overlaps, all_of, at_times_failing, event, handled, open};

const SHARDS: u16 = 4;

/// Two consumers handle the events of the shards that they read.
async fn keeps_the_order(read_by: [&[u16]; 2]) {
    let (redis, shop) = tokio::join!(RedisServer::start(), open::<Postgres<Owned>>());
    let overlaps = Overlaps::default();
    let sharded = || {
        let stream = RedisStream::builder(redis.url());
        stream.sharded("orders", SHARDS).group(GROUP)
    };
    let sink = sharded().connect().await.unwrap();
    let mut running = Vec::new();
    for shards in read_by {
        let stream = sharded().shards(shards.iter().copied());
        let consumer = Consumer::builder(
            stream.connect().await.unwrap(),
            shop.inbox(),
            router::<Postgres<Owned>>(at_times_failing(&overlaps)),
        );
        let consumer = consumer.ordered().backoff(soon());
        running.push(Running::start(consumer.build().unwrap()));
    }

    for number in 0..12 {
        let events: Vec<Envelope> = (0..20).map(|aggregate| event(aggregate, number)).collect();
        sink.send(&events).await.unwrap();
    }
    eventually(DEADLINE, async || shop.counts().await.processed == 240).await;
    for running in running {
        running.stop().await;
    }

    assert_eq!(handled(&shop).await, all_of(20, 12));
    assert!(overlaps.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_where_two_processes_have_half_of_the_shards_each() {
    keeps_the_order([&[0, 1], &[2, 3]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_where_two_processes_have_all_shards() {
    keeps_the_order([&[0, 1, 2, 3], &[0, 1, 2, 3]]).await;
}
