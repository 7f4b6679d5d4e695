//! Limits: the consumer's, not each worker's, and never waited for inside a transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Postgres, Script, Shop, names},
};
use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tower::{
    Service, ServiceBuilder,
    layer::layer_fn,
    limit::{ConcurrencyLimitLayer, RateLimitLayer},
};

on_every_database!(
    a_concurrency_limit_is_the_consumers,
    a_rate_limit_holds_for_all_workers,
    an_overloaded_layer_burns_no_attempt,
    a_stop_does_not_wait_for_readiness,
);

/// What at most ran at once.
#[derive(Default)]
struct Gauge {
    now: AtomicU32,
    most: AtomicU32,
}

impl Gauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn a_concurrency_limit_is_the_consumers<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gauge = Arc::new(Gauge::default());
    let script = Script::new().on_parcel({
        let gauge = Arc::clone(&gauge);
        move |_| {
            let gauge = Arc::clone(&gauge);
            async move {
                gauge.enter();
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                gauge.leave();
                Ok(())
            }
            .boxed()
        }
    });
    shop.parcels(0..40).await;
    shop.orders(0..40).await;

    let consumer = shop
        .consumer(script)
        .layer(ConcurrencyLimitLayer::new(3))
        .workers(4);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.processed, 80, "{report}");
    assert_eq!(gauge.most.load(Ordering::SeqCst), 3);
    assert_eq!(shop.effects().await, names(0..40));
}

async fn a_rate_limit_holds_for_all_workers<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..12).await;

    let window = Duration::from_millis(100);
    let consumer = shop
        .consumer(Script::new())
        .layer(RateLimitLayer::new(3, window))
        .workers(4);
    let started = Instant::now();
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.processed, 12, "{report}");
    // Four windows of three: the last begins after three whole ones.
    assert!(started.elapsed() >= window * 3);
    assert_eq!(shop.effects().await, names(0..12));
}

async fn an_overloaded_layer_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_parcel(|_| {
        async {
            tokio::task::yield_now().await;
            Ok(())
        }
        .boxed()
    });
    shop.parcels(0..10).await;

    let layers = ServiceBuilder::new().load_shed().concurrency_limit(1);
    let consumer = shop.consumer(script).layer(layers).workers(1);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert!(report.handed_back > 0, "{report}");
    assert_eq!(report.processed + report.handed_back, 10, "{report}");
    assert_eq!((report.failed, report.dead_lettered), (0, 0), "{report}");
    for event_id in shop.event_ids("pending").await {
        assert_eq!(shop.column(&event_id, "retry_count").await, "0");
    }
}

async fn a_stop_does_not_wait_for_readiness<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    let consumer = shop
        .consumer(Script::new())
        .layer(RateLimitLayer::new(1, Duration::from_hours(1)));
    let running = Running::start(consumer.build().unwrap());
    eventually(Duration::from_secs(20), async || {
        shop.counts().await.processed == 1
    })
    .await;

    let stopped = Instant::now();
    let report = running.stop().await;

    assert!(stopped.elapsed() < Duration::from_secs(5));
    assert_eq!((report.processed, report.handed_back), (1, 2), "{report}");
    assert_eq!(shop.counts().await.pending, 2);
}

/// Tells when a call waits for readiness, which a look at it with no waker is not.
struct Noticing<S> {
    inner: S,
    waits: Arc<Notify>,
}

impl<S: Service<R>, R> Service<R> for Noticing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.poll_ready(cx);
        if ready.is_pending() && !cx.waker().will_wake(Waker::noop()) {
            self.waits.notify_one();
        }
        ready
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_readiness_inside_a_transaction() {
    let shop = Shop::<Postgres>::open().await;
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
    // The parcel holds the only permit; the orders wait for it.
    shop.parcels(0..1).await;
    shop.orders(0..4).await;
    let waits = Arc::new(Notify::new());
    let noticing = layer_fn(|inner| Noticing {
        inner,
        waits: Arc::clone(&waits),
    });
    let consumer = shop
        .consumer(script)
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(noticing)
        .workers(2);
    let running = Running::start(consumer.build().unwrap());
    let waiting = tokio::time::timeout(Duration::from_secs(20), waits.notified()).await;
    waiting.expect("an order waits for the permit");

    // What is open while an order waits stays open until the parcel is done.
    eventually(Duration::from_secs(20), async || {
        let open = "SELECT query FROM pg_stat_activity WHERE datname = current_database()
            AND state = 'idle in transaction'";
        shop.database.texts(open).await.is_empty()
    })
    .await;
    gate.add_permits(1);
    eventually(Duration::from_secs(20), async || {
        shop.counts().await.processed == 5
    })
    .await;
    running.stop().await;
    assert_eq!(shop.effects().await, names(0..4));
}
