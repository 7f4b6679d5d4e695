//! Workers that are behind: what is read waits in the inbox, up to the high-water mark.

use std::{sync::Arc, time::Duration};

use eventflow_tests::{
    always, eventually,
    gate::Gate,
    running::Running,
    shop::{Builder, Database, Script, Shop},
};

use super::{A_WHILE, DEADLINE};

on_every_database!(
    rows_wait_up_to_the_mark_and_nothing_more_is_read,
    rows_that_wait_run_at_another_consumer,
    a_mark_of_zero_stores_only_what_the_workers_have_room_for,
);

const BATCH: usize = 5;
const MARK: usize = 20;
const PARCELS: u32 = 100;

/// Leased rows: six batches wait, and the worker runs one.
const LEASED: usize = 7 * BATCH;

/// A consumer of one worker. Parcels hold no transaction, which on SQLite would keep all others from
/// writing.
fn behind<D: Database>(shop: &Shop<D>, script: Script<D>, mark: usize) -> Builder<D> {
    shop.consumer(script)
        .workers(1)
        .batch_size(BATCH)
        .high_water_mark(u32::try_from(mark).unwrap())
}

/// What was stored, and what waits of it.
async fn rows<D: Database>(shop: &Shop<D>) -> (usize, usize) {
    let pending = shop.event_ids("pending").await.len();
    (pending + shop.event_ids("processing").await.len(), pending)
}

/// All parcels have been handled once.
async fn all_done<D: Database>(shop: &Shop<D>) {
    let all = u64::from(PARCELS);
    eventually(DEADLINE, async || shop.counts().await.processed == all).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let retried = "SELECT event_id FROM event_inbox WHERE retry_count <> 0";
    assert!(shop.database.texts(retried).await.is_empty());
}

async fn rows_wait_up_to_the_mark_and_nothing_more_is_read<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    shop.parcels(0..PARCELS).await;
    let consumer = behind(&shop, Script::new().parcels_wait_at(&gate), MARK)
        .build()
        .unwrap();
    let running = Running::start(consumer);

    eventually(DEADLINE, async || rows(&shop).await.1 == MARK).await;
    always(A_WHILE, async || {
        let (stored, pending) = rows(&shop).await;
        pending <= MARK && stored <= MARK + LEASED
    })
    .await;
    // No lease holds them for this process.
    let leased =
        "SELECT event_id FROM event_inbox WHERE status = 'pending' AND locked_by IS NOT NULL";
    assert!(shop.database.texts(leased).await.is_empty());
    gate.open();
    all_done(&shop).await;
    let report = running.stop().await;

    assert_eq!(report.stored, u64::from(PARCELS), "{report}");
    assert_eq!(report.processed, u64::from(PARCELS), "{report}");
    assert_eq!((report.recovered, report.lease_lost), (0, 0), "{report}");
}

async fn rows_that_wait_run_at_another_consumer<D: Database>() {
    let shop = Arc::new(Shop::<D>::open().await);
    let gate = Gate::new();
    shop.parcels(0..PARCELS).await;
    let consumer = behind(&shop, Script::new().parcels_wait_at(&gate), MARK)
        .build()
        .unwrap();
    let blocked = Running::start(consumer);
    eventually(DEADLINE, async || rows(&shop).await.1 == MARK).await;

    // It reads under a name of its own, and finds the rows by itself.
    let stream = shop.stream.clone().consumer("other");
    let other = shop.consumer_of(stream, Script::new()).workers(1);
    let other = other.claim_idle(Duration::from_hours(1));
    let other = Running::start(other.build().unwrap());
    let left = u64::try_from(LEASED + 4 * BATCH).unwrap();
    eventually(DEADLINE, async || {
        let counts = shop.counts().await;
        counts.pending == 0 && counts.processed >= u64::from(PARCELS) - left
    })
    .await;
    gate.open();
    all_done(&shop).await;
    let [blocked, other] = [blocked.stop().await, other.stop().await];

    let processed = blocked.processed + other.processed;
    assert_eq!(processed, u64::from(PARCELS), "{blocked}{other}");
    assert!(other.processed >= MARK as u64, "{other}");
    assert_eq!((other.recovered, other.lease_lost), (0, 0), "{other}");
}

async fn a_mark_of_zero_stores_only_what_the_workers_have_room_for<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    shop.parcels(0..PARCELS).await;
    let consumer = behind(&shop, Script::new().parcels_wait_at(&gate), 0)
        .build()
        .unwrap();
    let running = Running::start(consumer);

    gate.entered().await;
    always(A_WHILE, async || {
        let (stored, pending) = rows(&shop).await;
        pending == 0 && stored <= LEASED
    })
    .await;
    gate.open();
    all_done(&shop).await;
    let report = running.stop().await;

    assert_eq!(report.processed, u64::from(PARCELS), "{report}");
}
