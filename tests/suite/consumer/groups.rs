//! Several consumers: on one group, on several, and one after another.

use std::time::Duration;

use eventflow::{Inbox, stream::Source};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Script, Shop, names, order},
};

use super::DEADLINE;

on_every_database!(
    two_consumers_of_one_group_handle_each_event_once,
    two_groups_on_one_table_each_handle_every_event,
    entries_that_another_consumer_left_pending_are_claimed,
    entries_that_were_trimmed_are_counted,
);

async fn two_consumers_of_one_group_handle_each_event_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let consumers: Vec<_> = ["one", "other"]
        .iter()
        .map(|name| {
            let stream = shop.stream.clone().consumer(name);
            let consumer = shop.consumer_of(stream, Script::new()).batch_size(5);
            Running::start(consumer.build().unwrap())
        })
        .collect();

    shop.orders(0..100).await;
    shop.orders(0..20).await;
    eventually(DEADLINE, async || {
        shop.counts().await.processed == 100 && shop.stream.pending() == 0
    })
    .await;

    let (mut processed, mut duplicates) = (0, 0);
    for consumer in consumers {
        let report = consumer.stop().await;
        processed += report.processed;
        duplicates += report.duplicates;
    }
    assert_eq!((processed, duplicates), (100, 20));
    assert_eq!(shop.effects().await, names(0..100));
}

async fn two_groups_on_one_table_each_handle_every_event<D: Database>() {
    let shop = Shop::<D>::open().await;
    let other = shop.stream.clone().group("accounts");
    other.open().await.unwrap();
    shop.orders(0..10).await;

    let first = shop.consumer(Script::new()).build().unwrap();
    let second = shop.consumer_of(other, Script::new()).build().unwrap();
    let first = first.drain().await.unwrap();
    let second = second.drain().await.unwrap();

    assert_eq!((first.processed, first.duplicates), (10, 0), "{first}");
    assert_eq!((second.processed, second.duplicates), (10, 0), "{second}");
    assert_eq!(shop.effects().await.len(), 20);
    assert_eq!(shop.inbox().counts("accounts").await.unwrap().processed, 10);
}

async fn entries_that_another_consumer_left_pending_are_claimed<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..4).await;
    let dead = shop.stream.clone().consumer("dead");
    assert_eq!(dead.read(3, None).await.unwrap().entries.len(), 3);

    let consumer = shop
        .consumer(Script::new())
        .claim_idle(Duration::from_millis(100));
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 4).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;

    assert!(report.claimed >= 3, "{report}");
    assert_eq!(report.processed, 4, "{report}");
    assert_eq!(shop.effects().await, names(0..4));
}

async fn entries_that_were_trimmed_are_counted<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..4).await;
    // This consumer was given three of them, and ended before it stored any.
    assert_eq!(shop.stream.read(3, None).await.unwrap().entries.len(), 3);
    shop.stream.trim(2);

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.trimmed, report.processed), (2, 2), "{report}");
    assert_eq!(shop.effects().await, names(2..4));
    assert_eq!(shop.stream.pending(), 0);
    assert_eq!(order(2).metadata().event_id, "order-2");
}
