//! An idle consumer wakes for what is to be done, whatever its polls say.

use std::time::Duration;

use eventflow::{Failure, inbox::backoff::Backoff};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Script, Shop, names},
};
use futures_util::FutureExt;

use super::DEADLINE;

on_every_database!(
    an_event_published_to_an_idle_consumer_is_handled_at_once,
    a_retry_that_is_due_soon_wakes_the_consumer,
    a_retry_that_is_due_soon_wakes_a_consumer_that_has_looked_in_vain,
);

const MINUTES: Duration = Duration::from_mins(5);

async fn an_event_published_to_an_idle_consumer_is_handled_at_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let consumer = shop
        .consumer(Script::new())
        .poll_interval(MINUTES)
        .block(MINUTES);
    let running = Running::start(consumer.build().unwrap());

    for round in 0..3 {
        shop.orders(round..round + 1).await;
        shop.parcels(round..round + 1).await;
        let done = u64::from(round + 1) * 2;
        eventually(DEADLINE, async || shop.counts().await.processed == done).await;
    }

    let report = running.stop().await;
    assert_eq!(report.processed, 6, "{report}");
    assert_eq!(shop.effects().await, names(0..3));
}

async fn a_retry_that_is_due_soon_wakes_the_consumer<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            if call.meta.attempt < 3 {
                return Err(Failure::retry("not yet"));
            }
            call.write().await
        }
        .boxed()
    });
    let short = Duration::from_millis(30);
    let consumer = shop.consumer(script).poll_interval(MINUTES).block(MINUTES);
    let consumer = consumer.backoff(Backoff::new(short, short).without_jitter());
    let running = Running::start(consumer.build().unwrap());

    shop.orders(0..2).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;

    let report = running.stop().await;
    assert_eq!((report.processed, report.failed), (2, 4), "{report}");
}

/// Each failure makes it look for due rows, and find none.
async fn a_retry_that_is_due_soon_wakes_a_consumer_that_has_looked_in_vain<D: Database>() {
    const IN_VAIN: u32 = 20;
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            match (call.event.number, call.meta.attempt) {
                (IN_VAIN, 1) => Err(Failure::retry_after(Duration::from_millis(50), "not yet")),
                (IN_VAIN, _) => call.write().await,
                _ => Err(Failure::retry_after(MINUTES * 12, "not for long")),
            }
        }
        .boxed()
    });
    let consumer = shop.consumer(script).poll_interval(MINUTES).block(MINUTES);
    let running = Running::start(consumer.build().unwrap());
    for number in 0..IN_VAIN {
        shop.orders(number..number + 1).await;
        let failed = u64::from(number) + 1;
        eventually(DEADLINE, async || shop.counts().await.failed == failed).await;
    }

    shop.orders(IN_VAIN..IN_VAIN + 1).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;

    running.stop().await;
    assert_eq!(shop.effects().await, names([IN_VAIN]));
}
