//! When a failed event runs again, as the table shows it.

use std::time::Duration;

use eventflow::{consumer::ConsumerBuilder, inbox::backoff::Backoff, prelude::*};
use eventflow_tests::shop::{Database, Script, Shop, ShopRouter, router};
use futures_util::FutureExt;

on_every_database!(
    a_wait_doubles_from_a_minute_to_a_quarter_of_an_hour,
    a_wait_is_a_random_part_of_its_time,
    the_base_and_the_cap_are_the_users,
    an_event_runs_three_times_in_all,
    the_number_of_runs_is_the_users,
);

/// Every order fails, each time.
fn failing<D: Database>() -> Script<D> {
    Script::new().on_order(|_| async { Err(Failure::retry("not yet")) }.boxed())
}

/// The shop's consumer with no setting of the tests'.
fn consumer<D: Database>(
    shop: &Shop<D>,
    script: Script<D>,
) -> ConsumerBuilder<MemoryStream, D::Inbox, ShopRouter<D>> {
    shop.serving(router(script))
}

/// How many seconds lie between the failure and the next run.
async fn waits<D: Database>(shop: &Shop<D>) -> Vec<f64> {
    let waits = shop.database.texts(D::WAITS).await;
    waits.iter().map(|wait| wait.parse().unwrap()).collect()
}

/// Runs an order `runs` times; answers the wait after each, in whole seconds.
async fn waits_after<D: Database>(runs: usize, backoff: Backoff) -> Vec<f64> {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let consumer = consumer(&shop, failing()).backoff(backoff).max_retries(0);
    let consumer = consumer.build().unwrap();
    consumer.drain().await.unwrap();
    let mut after = waits(&shop).await;
    while after.len() < runs {
        // An event without a limit runs once in each.
        consumer.drain_scheduled().await.unwrap();
        after.extend(waits(&shop).await);
    }
    after.into_iter().map(f64::round).collect()
}

async fn a_wait_doubles_from_a_minute_to_a_quarter_of_an_hour<D: Database>() {
    let after = waits_after::<D>(7, Backoff::DEFAULT.without_jitter()).await;

    assert_eq!(after, [60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]);
}

async fn the_base_and_the_cap_are_the_users<D: Database>() {
    let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(25));

    let after = waits_after::<D>(4, backoff.without_jitter()).await;

    assert_eq!(after, [10.0, 20.0, 25.0, 25.0]);
}

/// A wait may be over before the drain is: then its order succeeds and does not wait any more.
async fn a_wait_is_a_random_part_of_its_time<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|call| {
        let answer = match call.meta.attempt {
            1 => Err(Failure::retry("not yet")),
            _ => Ok(()),
        };
        async { answer }.boxed()
    });
    shop.orders(0..100).await;

    let consumer = consumer(&shop, script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.failed, 100, "{report}");
    let waits = waits(&shop).await;
    assert!(waits.iter().all(|wait| (-0.01..=60.01).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < 20.0), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 40.0), "{waits:?}");
}

/// Runs an order until it is kept; answers how often it failed.
async fn runs_in_all<D: Database>(limit: Option<i32>) -> u64 {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let mut consumer = consumer(&shop, failing());
    if let Some(limit) = limit {
        consumer = consumer.max_retries(limit);
    }

    let report = consumer.build().unwrap().drain_scheduled().await.unwrap();

    assert_eq!(shop.counts().await.dead_letter, 1, "{report}");
    let retry_count = shop.column("order-0", "retry_count").await;
    assert_eq!(shop.column("order-0", "next_retry_at").await, "");
    retry_count.parse().unwrap()
}

async fn an_event_runs_three_times_in_all<D: Database>() {
    assert_eq!(runs_in_all::<D>(None).await, 3);
}

async fn the_number_of_runs_is_the_users<D: Database>() {
    assert_eq!(runs_in_all::<D>(Some(5)).await, 5);
}
