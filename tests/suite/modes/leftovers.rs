//! Inline: what does not fit into the batch's transaction goes on as by default.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::Source;
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Database, Script, Shop, names},
};
use futures_util::FutureExt;

use super::{DEADLINE, note_states, states_of};

inline!(
    a_slow_handler_without_transaction_keeps_none_open,
    a_call_that_a_layer_holds_back_commits_what_was_done_before,
    an_entry_that_comes_again_is_stored_before_it_runs,
    a_batch_whose_transaction_a_handler_ends_is_stored_and_runs_one_by_one,
    batches_that_wait_at_a_stop_are_stored_and_handed_back,
    a_drain_whose_caller_goes_away_ends_what_it_has_begun,
);

/// Much longer than a transaction stays open for a handler without it.
const SOON: Duration = Duration::from_secs(5);

/// Leases of rows that run, and who holds them.
const LEASES: &str = "SELECT event_id FROM event_inbox
    WHERE status = 'processing' AND locked_by IS NOT NULL ORDER BY event_id";

async fn a_slow_handler_without_transaction_keeps_none_open<D: Database>() {
    let shop = Shop::<D>::open().await;
    note_states(&shop).await;
    let gate = Gate::new();
    let script = Script::new().parcels_wait_at(&gate);
    shop.parcels(0..1).await;
    shop.orders(0..3).await;
    let running = Running::start(shop.consumer(script).build().unwrap());

    gate.entered().await;
    eventually(SOON, async || {
        shop.event_ids("processed").await == names(0..3)
    })
    .await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    assert_eq!(shop.database.texts(LEASES).await, ["parcel-0"]);
    eventually(DEADLINE, async || {
        shop.database.texts(D::IDLE_IN_TRANSACTION).await.is_empty()
    })
    .await;
    gate.open();
    eventually(DEADLINE, async || shop.counts().await.processed == 4).await;
    let report = running.stop().await;

    assert_eq!((report.processed, report.units_lost), (4, 0), "{report}");
    let states = states_of(&shop, "parcel-0").await;
    assert_eq!(states, ["processed", "processing", "processed"]);
    assert_eq!(shop.column("parcel-0", "lock_token").await, "1");
    assert_eq!(shop.effects().await, names(0..3));
}

async fn a_call_that_a_layer_holds_back_commits_what_was_done_before<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    shop.orders(0..4).await;
    let consumer = shop
        .consumer(Script::new())
        .layer(gate.holding_back(3))
        .workers(1);
    let running = Running::start(consumer.build().unwrap());

    gate.entered().await;
    eventually(DEADLINE, async || {
        shop.event_ids("processed").await == names(0..2)
    })
    .await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    assert_eq!(shop.database.texts(LEASES).await, names(2..4));
    assert_eq!(shop.effects().await, names(0..2));
    eventually(DEADLINE, async || {
        shop.database.texts(D::IDLE_IN_TRANSACTION).await.is_empty()
    })
    .await;
    gate.open();
    eventually(DEADLINE, async || shop.counts().await.processed == 4).await;
    let report = running.stop().await;

    assert_eq!((report.processed, report.recovered), (4, 0), "{report}");
    assert_eq!(report.handed_back, 0, "{report}");
    assert_eq!(shop.effects().await, names(0..4));
}

/// Which of these orders' rows others see while the handler runs.
async fn seen_while_they_run<D: Database>(redelivered: bool) -> Vec<String> {
    let shop = Arc::new(Shop::<D>::open().await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Script::<D>::new().on_order({
        let (shop, seen) = (Arc::clone(&shop), Arc::clone(&seen));
        move |mut call| {
            let (shop, seen) = (Arc::clone(&shop), Arc::clone(&seen));
            async move {
                let rows = shop.event_ids("processing").await;
                let own = rows.into_iter().filter(|row| *row == call.meta.event_id);
                seen.lock().unwrap().extend(own);
                call.write().await
            }
            .boxed()
        }
    });
    shop.orders(0..3).await;
    if redelivered {
        // One that then goes away.
        let another = shop.stream.clone().consumer("another");
        let read = another.read(10, None).await.unwrap();
        assert_eq!(read.entries.len(), 3);
    }
    let consumer = shop.consumer(script).claim_idle(Duration::from_millis(10));
    let consumer = consumer.build().unwrap();
    eventually(DEADLINE, async || {
        consumer.drain().await.unwrap();
        shop.counts().await.processed == 3
    })
    .await;

    assert_eq!(shop.effects().await, names(0..3));
    assert_eq!(shop.stream.pending(), 0);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen
}

async fn an_entry_that_comes_again_is_stored_before_it_runs<D: Database>() {
    assert!(seen_while_they_run::<D>(false).await.is_empty());
    assert_eq!(seen_while_they_run::<D>(true).await, names(0..3));
}

/// What ran in the lost transaction runs again, alone; nothing is charged but to the one to blame.
async fn a_batch_whose_transaction_a_handler_ends_is_stored_and_runs_one_by_one<D: Database>() {
    let shop = Shop::<D>::open().await;
    let runs = Arc::new([const { AtomicU32::new(0) }; 4]);
    let script = Script::<D>::new().on_order({
        let runs = Arc::clone(&runs);
        move |mut call| {
            let number = call.event.number;
            runs[number as usize].fetch_add(1, Ordering::SeqCst);
            async move {
                call.write().await?;
                if number == 1 {
                    // What it answers is of no matter.
                    _ = call.execute("COMMIT").await;
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..4).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (3, 1), "{report}");
    assert_eq!(report.units_lost, 2, "{report}");
    assert_eq!((report.stored, report.duplicates), (4, 0), "{report}");
    let runs = runs.each_ref().map(|runs| runs.load(Ordering::SeqCst));
    // Without a savepoint of its own to release, the next one finds out.
    let next = if D::MODE.replay_safe { 2 } else { 1 };
    assert_eq!(runs, [2, 2, next, 1]);
    assert_eq!(shop.effects().await, names([0, 2, 3]));
    for (number, retry_count) in [(0, "0"), (1, "1"), (2, "0"), (3, "0")] {
        let row = format!("order-{number}");
        assert_eq!(shop.column(&row, "retry_count").await, retry_count, "{row}");
    }
    assert_eq!(shop.stream.pending(), 0);
}

async fn batches_that_wait_at_a_stop_are_stored_and_handed_back<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::new().orders_wait_at(&gate);
    shop.orders(0..3).await;
    let consumer = shop.consumer(script).workers(1).batch_size(1);
    let consumer = consumer.high_water_mark(0).build().unwrap();
    let running = Running::start(consumer);
    gate.entered().await;
    // All are read: one runs, and the others wait.
    eventually(DEADLINE, async || shop.stream.pending() == 3).await;

    let stopping = tokio::spawn(running.stop());
    tokio::task::yield_now().await;
    gate.open();
    let report = stopping.await.unwrap();

    assert_eq!(report.failed, 0, "{report}");
    assert!(report.processed >= 1, "{report}");
    let back = report.stored - report.processed;
    assert_eq!(report.handed_back, back, "{report}");
    let counts = shop.counts().await;
    assert_eq!((counts.processing, counts.pending), (0, back), "{report}");
    let left = shop
        .consumer(Script::new())
        .claim_idle(Duration::from_millis(10));
    let left = left.build().unwrap();
    eventually(DEADLINE, async || {
        left.drain().await.unwrap();
        shop.counts().await.processed == 3
    })
    .await;
    assert_eq!(shop.effects().await, names(0..3));
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_drain_whose_caller_goes_away_ends_what_it_has_begun<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::new().orders_wait_at(&gate);
    shop.orders(0..3).await;
    let consumer = shop.consumer(script).build().unwrap();
    let draining = tokio::spawn(async move { consumer.drain().await });
    gate.entered().await;

    draining.abort();
    assert!(draining.await.unwrap_err().is_cancelled());
    gate.open();

    eventually(DEADLINE, async || shop.counts().await.processed == 3).await;
    assert_eq!(shop.effects().await, names(0..3));
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
}
