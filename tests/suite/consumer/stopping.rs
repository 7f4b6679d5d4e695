//! A consumer stops: what runs finishes or is cut, what waits is handed back, nothing is lost.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Database, Script, Shop, names},
};
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::DEADLINE;

on_every_database!(
    an_idle_consumer_stops_at_once,
    what_runs_finishes_and_what_waits_is_handed_back,
    what_runs_beyond_the_grace_period_is_cut,
    a_destructor_that_panics_when_it_is_cut_loses_nothing,
    a_dropped_consumer_stops_as_well,
    a_dropped_consumer_holds_what_still_runs,
    a_consumer_that_is_stopped_before_it_starts_does_nothing,
);

async fn an_idle_consumer_stops_at_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    let minutes = Duration::from_mins(5);
    let consumer = shop
        .consumer(Script::new())
        .poll_interval(minutes)
        .block(minutes);
    let running = Running::start(consumer.build().unwrap());
    shop.orders(0..1).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;

    let stopping = Instant::now();
    let report = running.stop().await;

    assert!(
        stopping.elapsed() < Duration::from_millis(100),
        "{:?}",
        stopping.elapsed()
    );
    assert_eq!((report.read, report.processed), (1, 1), "{report}");
}

fn gated<D: Database>() -> (Script<D>, Gate) {
    let gate = Gate::new();
    (Script::new().orders_wait_at(&gate), gate)
}

async fn what_runs_finishes_and_what_waits_is_handed_back<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, gate) = gated();
    shop.orders(0..10).await;
    // A second order may begin before the stop is seen; it is cut and handed back.
    let consumer = shop.consumer(script).workers(1).batch_size(4);
    let consumer = consumer.grace(Duration::from_secs(1));
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;

    let stopping = tokio::spawn(running.stop());
    tokio::task::yield_now().await;
    gate.let_one_pass();
    let report = stopping.await.unwrap();

    let counts = shop.counts().await;
    assert_eq!(counts.processed, report.processed, "{report}");
    // Without savepoints the cut takes back the first one too.
    let fewest = u64::from(!D::MODE.replay_safe);
    assert!((fewest..=2).contains(&report.processed), "{report}");
    assert_eq!(report.read, report.stored, "{report}");
    assert_eq!(
        report.stored,
        report.processed + report.handed_back,
        "{report}"
    );
    assert_eq!((counts.processing, counts.failed), (0, 0), "{counts:?}");
    assert_eq!(shop.effects().await, shop.event_ids("processed").await);

    let report = shop
        .consumer(Script::new())
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();
    assert_eq!(report.processed + counts.processed, 10, "{report}");
    assert_eq!(shop.effects().await, names(0..10));
}

async fn what_runs_beyond_the_grace_period_is_cut<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, gate) = gated();
    shop.orders(0..3).await;
    let consumer = shop
        .consumer(script)
        .workers(1)
        .grace(Duration::from_millis(50));
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;

    let report = running.stop().await;

    assert_eq!((report.processed, report.handed_back), (0, 3), "{report}");
    assert_eq!(shop.counts().await.pending, 3);
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
    assert!(shop.effects().await.is_empty());
}

/// Panics when it is dropped.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("it broke");
    }
}

async fn a_destructor_that_panics_when_it_is_cut_loses_nothing<D: Database>() {
    let shop = Shop::<D>::open().await;
    let entered = Arc::new(Notify::new());
    let script = Script::new().on_order({
        let entered = Arc::clone(&entered);
        move |mut call| {
            let entered = Arc::clone(&entered);
            async move {
                call.write().await?;
                if call.event.number == 1 {
                    let _fragile = Fragile;
                    entered.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..3).await;
    let consumer = shop
        .consumer(script)
        .workers(1)
        .lease(Duration::from_millis(500))
        .grace(Duration::from_millis(50));
    let running = Running::start(consumer.build().unwrap());
    entered.notified().await;

    let report = running.stop().await;

    // Nobody is left to hand the unit's rows back: they lapse, and run alone. Inline they are gone
    // with it, and their entries come again.
    let lapsed = if D::MODE.inline { 0 } else { 3 };
    assert_eq!((report.processed, report.failed), (0, 0), "{report}");
    assert!(shop.effects().await.is_empty());
    let running = Running::start(shop.consumer(Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 3).await;
    let report = running.stop().await;
    assert_eq!(
        (report.recovered, report.lease_lost),
        (lapsed, 0),
        "{report}"
    );
    assert_eq!(shop.effects().await, names(0..3));
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
}

async fn a_dropped_consumer_stops_as_well<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (script, gate) = gated();
    shop.orders(0..3).await;
    let minutes = Duration::from_mins(5);
    let consumer = shop.consumer(script).workers(1).block(minutes);
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;

    running.abort().await;
    gate.let_one_pass();

    eventually(DEADLINE, async || {
        let counts = shop.counts().await;
        counts.processed == 1 && counts.pending == 2
    })
    .await;
    assert_eq!(shop.effects().await, names(0..1));
}

/// A parcel: on SQLite an order that runs holds the writer, and nobody can take it over anyway.
async fn a_dropped_consumer_holds_what_still_runs<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::new().parcels_wait_at(&gate);
    shop.parcels(0..1).await;
    let consumer = shop.consumer(script).lease(Duration::from_millis(200));
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == ["parcel-0"]
    })
    .await;

    running.abort().await;
    let mut ends = HashSet::new();
    // Twice anew: one extension may have been under way when the consumer was dropped.
    while ends.len() < 3 {
        let known = ends.clone();
        let end = || shop.column("parcel-0", "locked_until");
        eventually(DEADLINE, async || !known.contains(&end().await)).await;
        ends.insert(end().await);
    }
    gate.let_one_pass();

    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    assert_eq!(shop.column("parcel-0", "lock_token").await, "1");
}

async fn a_consumer_that_is_stopped_before_it_starts_does_nothing<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    let consumer = shop.consumer(Script::new()).build().unwrap();

    let report = consumer.run_until(async {}).await.unwrap();

    let counts = shop.counts().await;
    assert_eq!(counts.processed, report.processed, "{report}");
    assert_eq!(counts.processing, 0);
}
