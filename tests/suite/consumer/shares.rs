//! What a worker takes at once of the rows that wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use eventflow::Sink as _;
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Database, Script, Shop, names, order, parcel},
};
use futures_util::FutureExt;

use super::DEADLINE;

owned_at_birth_on_postgres!(what_waits_behind_a_handler_that_has_become_slow_is_run_by_others);

/// Of those that are taken as quick ones, all but the first would wait for it.
async fn what_waits_behind_a_handler_that_has_become_slow_is_run_by_others<D: Database>() {
    const WORKERS: usize = 4;
    const QUICK: u32 = 500;
    const SLOW: u32 = 40;

    let shop = Shop::<D>::open().await;
    let (gate, running) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let script = Script::new().on_order({
        let (gate, running) = (gate.clone(), Arc::clone(&running));
        move |mut call| {
            let (gate, running) = (gate.clone(), Arc::clone(&running));
            async move {
                call.write().await?;
                running.fetch_add(1, Ordering::SeqCst);
                gate.pass().await;
                Ok(())
            }
            .boxed()
        }
    });
    let consumer = shop.consumer(script).workers(WORKERS).build().unwrap();
    let consumer = Running::start(consumer);
    let processed = async |number: u32| {
        let number = u64::from(number);
        eventually(DEADLINE, async || shop.counts().await.processed == number).await;
    };
    let parcels: Vec<_> = (0..QUICK).map(parcel).collect();
    shop.stream.send(&parcels).await.unwrap();
    processed(QUICK).await;

    let orders: Vec<_> = (0..SLOW).map(order).collect();
    shop.stream.send(&orders).await.unwrap();
    eventually(DEADLINE, async || running.load(Ordering::SeqCst) == WORKERS).await;
    gate.open();
    processed(QUICK + SLOW).await;

    let report = consumer.stop().await;
    assert_eq!(report.processed, u64::from(QUICK + SLOW), "{report}");
    assert_eq!(shop.effects().await, names(0..SLOW));
}
