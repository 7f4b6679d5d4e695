//! Limits on single handlers: other handlers do not wait for them, and no transaction is open while
//! they are waited for.

use std::{sync::Arc, time::Duration};

use eventflow::router::Router;
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{self, Database, Postgres, Script, Shop, names, print_label},
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tower::{
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    timeout::TimeoutLayer,
};

on_every_database!(
    a_limit_on_one_handler_keeps_no_other_waiting,
    a_timeout_around_a_call_that_waits_for_its_layers_burns_no_attempt,
);

const DEADLINE: Duration = Duration::from_secs(20);

/// Parcels wait at the gate, inside their handler.
fn gated<D: Database>() -> (Arc<Semaphore>, Script<D>) {
    let gate = Arc::new(Semaphore::new(0));
    let script = Script::new().on_parcel({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
            .boxed()
        }
    });
    (gate, script)
}

async fn a_limit_on_one_handler_keeps_no_other_waiting<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (gate, script) = gated();
    let router = Router::<D::Table, D::Inbox, _>::builder(script)
        .layer(print_label, ConcurrencyLimitLayer::new(1))
        .build();
    shop.parcels(0..3).await;
    shop.orders(0..10).await;

    let consumer = shop.serving(router);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 10).await;
    gate.add_permits(3);
    eventually(DEADLINE, async || shop.counts().await.processed == 13).await;
    let report = running.stop().await;

    assert_eq!((report.failed, report.handed_back), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..10));
}

async fn a_timeout_around_a_call_that_waits_for_its_layers_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (gate, script) = gated();
    let limit = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&limit).acquire_owned().await.unwrap();
    let router = Router::<D::Table, D::Inbox, _>::builder(script)
        .layer(
            print_label,
            GlobalConcurrencyLimitLayer::with_semaphore(limit),
        )
        .build();
    gate.add_permits(2);
    shop.parcels(0..2).await;

    let consumer = shop
        .serving(router)
        .layer(TimeoutLayer::new(Duration::from_millis(100)))
        .build()
        .unwrap();
    let waited = consumer.drain().await.unwrap();
    drop(held);
    let done = consumer.drain_scheduled().await.unwrap();

    assert_eq!((waited.handed_back, waited.failed), (2, 0), "{waited}");
    assert_eq!(done.processed, 2, "{done}");
    assert_eq!(shop.column("parcel-0", "retry_count").await, "0");
}

/// Orders and parcels share one permit.
fn sharing(script: Script<Postgres>) -> shop::ShopRouter<Postgres> {
    let limit = GlobalConcurrencyLimitLayer::new(1);
    Router::builder(script)
        .layer(print_label, limit.clone())
        .layer(shop::postgres::book_order, limit)
        .build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handlers_with_one_limit_take_turns() {
    let shop = Shop::<Postgres>::open().await;
    shop.parcels(0..10).await;
    shop.orders(0..10).await;

    let router = sharing(Script::new());
    let consumer = shop.serving(router);
    let consumer = consumer.build().unwrap();
    let report = tokio::time::timeout(DEADLINE, consumer.drain()).await;

    let report = report.expect("they wait for each other").unwrap();
    assert_eq!(report.processed, 20, "{report}");
    assert_eq!(shop.effects().await, names(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_handlers_layers_inside_a_transaction() {
    let shop = Shop::<Postgres>::open().await;
    let (_gate, script) = gated();
    shop.parcels(0..1).await;
    let consumer = shop.serving(sharing(script));
    let consumer = consumer.workers(2).grace(Duration::from_millis(200));
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processing == 1).await;

    // They wait for the permit that the parcel has.
    shop.orders(0..4).await;
    eventually(DEADLINE, async || shop.counts().await.processing == 5).await;
    eventually(DEADLINE, async || {
        let open = shop.database.texts(<Postgres>::IDLE_IN_TRANSACTION).await;
        open.is_empty()
    })
    .await;

    // A stop does not wait for it either.
    let report = running.stop().await;
    assert_eq!((report.processed, report.handed_back), (0, 5), "{report}");
    assert_eq!((report.failed, report.units_lost), (0, 0), "{report}");
    assert!(shop.effects().await.is_empty());
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}
