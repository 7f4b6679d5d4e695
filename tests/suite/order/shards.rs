//! A sharded stream, whose shards one consumer reads, or two.

use eventflow::{Consumer, Envelope, RedisStream, Sink as _};
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    running::Running,
    shop::{GROUP, Owned, Postgres, router, soon},
};

use super::{DEADLINE, NO_SECOND_LOOK, Overlaps, all_of, at_times_failing, event, handled, open};

const SHARDS: u16 = 4;

/// Has two consumers handle all events; answers how many each has read.
async fn read_in_order(read_by: [&[u16]; 2]) -> Vec<u64> {
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
        let consumer = consumer.ordered().backoff(soon()).lease(NO_SECOND_LOOK);
        running.push(Running::start(consumer.build().unwrap()));
    }

    for number in 0..12 {
        let events: Vec<Envelope> = (0..20).map(|aggregate| event(aggregate, number)).collect();
        sink.send(&events).await.unwrap();
    }
    eventually(DEADLINE, async || shop.counts().await.processed == 240).await;
    let mut read = Vec::new();
    for running in running {
        read.push(running.stop().await.read);
    }

    assert_eq!(handled(&shop).await, all_of(20, 12));
    assert!(overlaps.seen().is_empty());
    assert_eq!(read.iter().sum::<u64>(), 240);
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_where_two_consumers_have_half_of_the_shards_each() {
    let read = read_in_order([&[0, 1], &[2, 3]]).await;
    assert!(read.iter().all(|read| *read > 0), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_consumers_that_have_all_shards_reads_them() {
    let read = read_in_order([&[0, 1, 2, 3], &[0, 1, 2, 3]]).await;
    assert!(read.contains(&0), "{read:?}");
}
