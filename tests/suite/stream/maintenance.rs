//! Trimming, and a group without the names of the dead, on a real server.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_redis::redis::{
    Value,
    streams::{StreamInfoConsumersReply, StreamPendingReply, StreamRangeReply},
};
use eventflow::{
    ErrorKind, RedisStream, Sink,
    stream::{EntryId, RedisStreamBuilder, Source},
};
use eventflow_tests::{eventually, redis::RedisServer};

use super::{
    DEADLINE, envelopes, ids, read_all,
    redis::{open, orders, wait_until_read_waits},
};

/// A server that can free single entries: else it frees blocks of a hundred.
async fn server() -> RedisServer {
    RedisServer::start_with(&["--stream-node-max-entries", "1"]).await
}

fn trimming(server: &RedisServer) -> RedisStreamBuilder {
    orders(server.url()).trim_acknowledged()
}

/// The ids that the stream `orders` still has.
async fn kept(server: &RedisServer) -> Vec<String> {
    let reply: StreamRangeReply = server.run(&["XRANGE", "orders", "-", "+"]).await;
    reply.ids.into_iter().map(|entry| entry.id).collect()
}

fn names(ids: &[EntryId]) -> Vec<String> {
    ids.iter().map(|id| id.id.clone()).collect()
}

/// The names that the group `billing` has, with how much each has pending.
async fn consumers(server: &RedisServer) -> Vec<(String, usize)> {
    let reply: StreamInfoConsumersReply = server
        .run(&["XINFO", "CONSUMERS", "orders", "billing"])
        .await;
    let consumers = reply.consumers.into_iter();
    consumers
        .map(|consumer| (consumer.name, consumer.pending))
        .collect()
}

async fn read_and_acknowledge(stream: &RedisStream, count: usize) {
    let batch = stream.read(count, None).await.unwrap();
    assert_eq!(batch.entries.len(), count);
    stream.acknowledge(&ids(&batch)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_trimmed_unless_asked_for() {
    let server = server().await;
    let stream = open(orders(server.url())).await;
    let published = stream.send(&envelopes(0..5)).await.unwrap();
    read_and_acknowledge(&stream, 5).await;

    stream.maintain().await.unwrap();

    assert_eq!(kept(&server).await, names(&published));
}

#[tokio::test]
async fn what_every_group_has_acknowledged_is_trimmed_but_for_the_last_entry() {
    let server = server().await;
    let billing = open(trimming(&server)).await;
    let shipping = open(trimming(&server).group("shipping")).await;
    let published = billing.send(&envelopes(0..5)).await.unwrap();
    read_and_acknowledge(&billing, 5).await;
    read_and_acknowledge(&shipping, 5).await;

    billing.maintain().await.unwrap();
    shipping.maintain().await.unwrap();

    assert_eq!(kept(&server).await, names(&published[4..]));
    assert!(billing.read(10, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_entry_that_one_group_has_pending_is_kept_with_all_behind_it() {
    let server = server().await;
    let billing = open(trimming(&server)).await;
    let shipping = open(trimming(&server).group("shipping")).await;
    let published = billing.send(&envelopes(0..6)).await.unwrap();
    read_and_acknowledge(&billing, 6).await;
    let shipped = ids(&shipping.read(10, None).await.unwrap());
    let (pending, done) = (
        [shipped[2].clone()],
        [&shipped[..2], &shipped[3..]].concat(),
    );
    shipping.acknowledge(&done).await.unwrap();

    billing.maintain().await.unwrap();
    let while_pending = kept(&server).await;
    shipping.acknowledge(&pending).await.unwrap();
    billing.maintain().await.unwrap();

    assert_eq!(while_pending, names(&published[2..]));
    assert_eq!(kept(&server).await, names(&published[5..]));
}

#[tokio::test]
async fn entries_that_one_group_has_not_read_are_kept() {
    let server = server().await;
    let billing = open(trimming(&server)).await;
    let shipping = open(trimming(&server).group("shipping")).await;
    let published = billing.send(&envelopes(0..6)).await.unwrap();
    read_and_acknowledge(&billing, 6).await;
    read_and_acknowledge(&shipping, 3).await;

    billing.maintain().await.unwrap();

    assert_eq!(kept(&server).await, names(&published[2..]));
    assert_eq!(read_all(&shipping, 3).await, published[3..]);
}

#[tokio::test]
async fn a_group_that_was_just_made_keeps_everything() {
    let server = server().await;
    let billing = open(trimming(&server)).await;
    let published = billing.send(&envelopes(0..4)).await.unwrap();
    read_and_acknowledge(&billing, 4).await;
    let shipping = open(trimming(&server).group("shipping")).await;

    billing.maintain().await.unwrap();

    assert_eq!(kept(&server).await, names(&published));
    assert_eq!(read_all(&shipping, 4).await, published);
}

/// As texts, and as Lua's numbers, they would be in another order.
#[tokio::test]
async fn ids_are_compared_as_the_numbers_that_they_are() {
    for (pending, behind) in [
        ("9-5", "10-3"),
        ("10-9", "10-10"),
        (
            "18446744073709551614-18446744073709551614",
            "18446744073709551614-18446744073709551615",
        ),
    ] {
        let server = server().await;
        let stream = open(trimming(&server)).await;
        for id in ["1-0", pending, behind] {
            let _: String = server.run(&["XADD", "orders", id, "a", "b"]).await;
        }
        let read = ids(&stream.read(10, None).await.unwrap());
        stream
            .acknowledge(&[read[0].clone(), read[2].clone()])
            .await
            .unwrap();

        stream.maintain().await.unwrap();

        assert_eq!(kept(&server).await, [pending, behind]);
    }
}

#[tokio::test]
async fn a_long_stream_is_trimmed_in_several_steps() {
    let server = RedisServer::start().await;
    let stream = open(trimming(&server)).await;
    let add = "for n = 1, 25000 do redis.call('XADD', KEYS[1], n .. '-0', 'a', 'b') end";
    let _: Value = server.run(&["EVAL", add, "1", "orders"]).await;
    let _: String = server
        .run(&["XGROUP", "SETID", "orders", "billing", "$"])
        .await;

    stream.maintain().await.unwrap();

    assert!(kept(&server).await.len() <= 100);
}

/// Groups read, come and acknowledge while several nodes trim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimming_takes_nothing_from_groups_at_work() {
    const EVENTS: u32 = 2_000;
    let server = server().await;
    let billing = open(trimming(&server)).await;
    let done = AtomicBool::new(false);
    let publish = async {
        for first in (0..EVENTS).step_by(20) {
            billing.send(&envelopes(first..first + 20)).await.unwrap();
        }
    };
    let consume = async |group: &str, expected: usize| {
        let stream = open(trimming(&server).group(group)).await;
        let mut seen = BTreeSet::new();
        while seen.len() < expected {
            let batch = stream.read(7, Some(DEADLINE)).await.unwrap();
            assert!(batch.trimmed.is_empty() && !batch.is_empty(), "{batch:?}");
            stream.acknowledge(&ids(&batch)).await.unwrap();
            seen.extend(names(&ids(&batch)));
        }
    };
    // From its making on, a group has all that is there.
    let come_late = async {
        for number in 0..20 {
            let group = format!("late-{number}");
            let stream = open(trimming(&server).group(&group)).await;
            let there = kept(&server).await;
            let mut seen = BTreeSet::new();
            while let batch = stream.read(500, None).await.unwrap()
                && !batch.is_empty()
            {
                assert!(batch.trimmed.is_empty());
                stream.acknowledge(&ids(&batch)).await.unwrap();
                seen.extend(names(&ids(&batch)));
            }
            assert!(there.iter().all(|id| seen.contains(id)));
            let _: i64 = server.run(&["XGROUP", "DESTROY", "orders", &group]).await;
        }
    };
    let trim = async || {
        while !done.load(Ordering::Relaxed) {
            billing.maintain().await.unwrap();
        }
    };

    let all = usize::try_from(EVENTS).unwrap();
    // Both groups are there before the first event.
    let _shipping = open(trimming(&server).group("shipping")).await;
    let work = async {
        tokio::join!(
            publish,
            consume("billing", all),
            consume("shipping", all),
            come_late
        );
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, trim(), trim());

    billing.maintain().await.unwrap();
    assert_eq!(kept(&server).await.len(), 1);
}

#[tokio::test]
async fn a_dead_consumers_name_goes_away_and_its_pending_entries_do_not() {
    let server = server().await;
    let stream = |name: &str| {
        orders(server.url())
            .consumer(name)
            .remove_consumers_after(Duration::ZERO)
    };
    let dead = open(stream("dead")).await;
    let published = dead.send(&envelopes(0..4)).await.unwrap();
    assert_eq!(dead.read(2, None).await.unwrap().entries.len(), 2);
    read_and_acknowledge(&open(stream("done")).await, 2).await;
    let living = open(stream("living")).await;

    // Two nodes do so at once.
    let (one, other) = tokio::join!(living.maintain(), living.maintain());
    one.and(other).unwrap();
    let with_pending = consumers(&server).await;
    let claimed = living.claim(Duration::ZERO, 10).await.unwrap();
    living.maintain().await.unwrap();

    let expected = |names: &[(&str, usize)]| {
        let names = names.iter();
        names
            .map(|(name, pending)| ((*name).to_owned(), *pending))
            .collect::<Vec<_>>()
    };
    assert_eq!(with_pending, expected(&[("dead", 2), ("living", 0)]));
    assert_eq!(ids(&claimed), published[..2]);
    assert_eq!(consumers(&server).await, expected(&[("living", 2)]));
}

#[tokio::test]
async fn names_are_kept_for_an_hour_or_for_ever() {
    let server = server().await;
    let gone = open(orders(server.url()).consumer("gone")).await;
    gone.send(&envelopes(0..1)).await.unwrap();
    read_and_acknowledge(&gone, 1).await;
    let by_default = open(orders(server.url())).await;
    let never = open(orders(server.url()).remove_consumers_after(None)).await;

    by_default.maintain().await.unwrap();
    never.maintain().await.unwrap();

    let names = consumers(&server).await;
    assert!(names.contains(&("gone".to_owned(), 0)), "{names:?}");
}

/// Before Redis 7.2, a consumer counts as idle that waits for entries.
#[tokio::test]
async fn a_consumer_that_finds_nothing_to_read_keeps_its_name() {
    const IDLE: Duration = Duration::from_secs(2);
    let server = server().await;
    let quiet = open(orders(server.url()).consumer("quiet")).await;
    quiet.send(&envelopes(0..1)).await.unwrap();
    read_and_acknowledge(&quiet, 1).await;
    let other = open(orders(server.url()).remove_consumers_after(IDLE)).await;
    eventually(DEADLINE, async || {
        let reply: StreamInfoConsumersReply = server
            .run(&["XINFO", "CONSUMERS", "orders", "billing"])
            .await;
        reply.consumers[0].idle >= 2_000
    })
    .await;

    quiet.maintain().await.unwrap();
    other.maintain().await.unwrap();

    let names = consumers(&server).await;
    assert!(names.contains(&("quiet".to_owned(), 0)), "{names:?}");
}

#[tokio::test]
async fn a_name_that_is_removed_under_a_waiting_read_comes_back_with_the_entry() {
    let server = server().await;
    let waiting = open(orders(server.url()).consumer("waiting")).await;
    waiting.maintain().await.unwrap();
    let other = open(orders(server.url()).remove_consumers_after(Duration::ZERO)).await;
    let reading = read_all(&waiting, 1);
    let removing = async {
        wait_until_read_waits(&server).await;
        other.maintain().await.unwrap();
        let names = consumers(&server).await;
        (names, other.send(&envelopes(0..1)).await.unwrap())
    };

    let both = futures_util::future::join(reading, removing);
    let (read, (names, published)) = tokio::time::timeout(DEADLINE, both).await.unwrap();

    assert!(
        !names.iter().any(|(name, _)| name == "waiting"),
        "{names:?}"
    );
    assert_eq!(read, published);
    assert!(
        consumers(&server)
            .await
            .contains(&("waiting".to_owned(), 1))
    );
    let pending: StreamPendingReply = server.run(&["XPENDING", "orders", "billing"]).await;
    assert_eq!(pending.count(), 1);
}

#[tokio::test]
async fn without_permission_for_scripts_nothing_is_done_and_the_error_says_so() {
    let server = server().await;
    let gone = open(orders(server.url()).consumer("gone")).await;
    let published = gone.send(&envelopes(0..3)).await.unwrap();
    read_and_acknowledge(&gone, 3).await;
    let stream = open(trimming(&server).remove_consumers_after(Duration::ZERO)).await;
    let _: String = server.run(&["ACL", "SETUSER", "default", "-eval"]).await;

    let error = stream.maintain().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Stream);
    assert!(!error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("`orders`"), "{error}");
    assert!(error.to_string().contains("permission"), "{error}");
    assert!(consumers(&server).await.contains(&("gone".to_owned(), 0)));
    assert_eq!(kept(&server).await, names(&published));
}

#[tokio::test]
async fn a_stream_that_is_lost_or_refused_keeps_no_other_from_being_maintained() {
    let server = server().await;
    let builder = RedisStream::builder(server.url())
        .stream("lost")
        .stream("refused")
        .stream("orders");
    let builder = builder
        .group("billing")
        .publish_to("orders")
        .trim_acknowledged();
    let stream = open(builder).await;
    let published = stream.send(&envelopes(0..3)).await.unwrap();
    assert_eq!(read_all(&stream, 3).await, published);
    stream.acknowledge(&published).await.unwrap();
    let _: i64 = server.run(&["DEL", "lost", "refused"]).await;
    let _: String = server.run(&["SET", "refused", "7"]).await;

    let error = stream.maintain().await.unwrap_err();

    assert!(error.to_string().contains("`refused`"), "{error}");
    assert_eq!(kept(&server).await, names(&published[2..]));
}
