//! tower's layers, ours, and a user's, around the consumer and around one handler.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use eventflow::{
    BoxError, Delivery, Failure, Inbox,
    layer::{CatchPanicLayer, TraceLayer},
    prelude::*,
    router::{Router, RouterBuilder},
};
use eventflow_tests::shop::{
    self, Database, Postgres, Script, Shop, Sqlite, names, print_label, soon,
};
use futures_util::{FutureExt, future::Ready};
use tower::{
    Layer, ServiceBuilder,
    layer::{layer_fn, util::Stack},
    retry::Policy,
    timeout::TimeoutLayer,
};

on_every_database!(
    a_retry_begins_from_a_clean_savepoint,
    all_standard_layers_stack,
    a_layer_of_a_users_own_sees_every_delivery,
    a_kept_delivery_leads_to_no_transaction,
    a_layer_that_swallows_a_failure_keeps_no_writes,
    an_error_of_poll_ready_burns_no_attempt,
    a_layer_on_one_handler_wraps_no_other,
);

/// Calls a second time, whatever the error.
#[derive(Debug, Clone)]
struct Twice {
    left: u32,
}

impl<I: Inbox, T> Policy<Delivery<I>, T, BoxError> for Twice {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Delivery<I>,
        result: &mut Result<T, BoxError>,
    ) -> Option<Self::Future> {
        if result.is_ok() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(futures_util::future::ready(()))
    }

    fn clone_request(&mut self, delivery: &Delivery<I>) -> Option<Delivery<I>> {
        Some(delivery.clone())
    }
}

async fn a_retry_begins_from_a_clean_savepoint<D: Database>() {
    let shop = Shop::<D>::open().await;
    let calls = Arc::new(AtomicU32::new(0));
    let script = Script::new().on_order({
        let calls = Arc::clone(&calls);
        move |mut call| {
            let first = calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            async move {
                call.write().await?;
                if first {
                    return Err(Failure::retry("the first call"));
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..5).await;

    let layers = ServiceBuilder::new()
        .retry(Twice { left: 1 })
        .map_err(BoxError::from);
    let consumer = shop.consumer(script).layer(layers).workers(1);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (5, 0), "{report}");
    assert_eq!(calls.load(Ordering::SeqCst), 10);
    assert_eq!(shop.effects().await, names(0..5));
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
}

async fn all_standard_layers_stack<D: Database>() {
    let shop = Shop::<D>::open().await;
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new())
        .layer(CatchPanicLayer::new())
        .load_shed()
        .concurrency_limit(1000)
        .rate_limit(100_000, Duration::from_secs(1))
        .retry(Twice { left: 1 })
        .timeout(Duration::from_secs(10))
        .map_err(BoxError::from);
    shop.orders(0..50).await;

    let consumer = shop.consumer(Script::new()).layer(layers);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.processed, 50, "{report}");
    assert_eq!(shop.effects().await, names(0..50));
}

/// Keeps a clone of every delivery.
#[derive(Clone)]
struct Keeping<S, I: Inbox> {
    inner: S,
    kept: Arc<Mutex<Vec<Delivery<I>>>>,
}

impl<S: Service<Delivery<I>>, I: Inbox> Service<Delivery<I>> for Keeping<S, I> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery<I>) -> S::Future {
        self.kept.lock().unwrap().push(delivery.clone());
        self.inner.call(delivery)
    }
}

async fn kept_deliveries<D: Database>() -> Vec<Delivery<D::Inbox>> {
    let shop = Shop::<D>::open().await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let layer = layer_fn(|inner| Keeping {
        inner,
        kept: Arc::clone(&kept),
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(Script::new()).layer(layer);
    consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(shop.effects().await, names(0..3));
    std::mem::take(&mut *kept.lock().unwrap())
}

async fn a_layer_of_a_users_own_sees_every_delivery<D: Database>() {
    let mut seen: Vec<_> = kept_deliveries::<D>()
        .await
        .iter()
        .map(|delivery| delivery.metadata().event_id.clone())
        .collect();
    seen.sort();

    assert_eq!(seen, names(0..3));
}

async fn a_kept_delivery_leads_to_no_transaction<D: Database>() {
    for delivery in kept_deliveries::<D>().await {
        let failure = delivery.transaction().await.unwrap_err();

        assert!(failure.to_string().contains("its attempt is over"));
    }
}

async fn a_layer_that_swallows_a_failure_keeps_no_writes<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            call.write().await?;
            Err(Failure::retry("swallowed"))
        }
        .boxed()
    });
    shop.orders(0..2).await;

    let swallow = ServiceBuilder::new().map_result(|_: Result<_, Failure>| Ok::<(), Failure>(()));
    let consumer = shop.consumer(script).layer(swallow);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.processed, 2, "{report}");
    assert!(shop.effects().await.is_empty());
}

/// Is not ready the first few times.
struct Reluctant<S> {
    inner: S,
    refusals: u32,
}

impl<S, R> Service<R> for Reluctant<S>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Poll::Ready(Err("the bank is closed".into()));
        }
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = self.inner.call(request);
        async move { call.await.map_err(Into::into) }.boxed()
    }
}

async fn an_error_of_poll_ready_burns_no_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    let layer = layer_fn(|inner| Reluctant { inner, refusals: 2 });

    let consumer = shop.consumer(Script::new()).layer(layer);
    let consumer = consumer.backoff(soon()).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.handed_back), (1, 2), "{report}");
    let report = consumer.drain_scheduled().await.unwrap();
    assert_eq!((report.processed, report.failed), (2, 0), "{report}");
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}

/// Counts calls.
#[derive(Clone)]
struct Counting<S> {
    inner: S,
    calls: Arc<AtomicU32>,
}

impl<S: Service<R>, R> Service<R> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.call(request)
    }
}

#[derive(Clone)]
struct CountingLayer(Arc<AtomicU32>);

impl<S> Layer<S> for CountingLayer {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            calls: Arc::clone(&self.0),
        }
    }
}

async fn a_layer_on_one_handler_wraps_no_other<D: Database>() {
    let shop = Shop::<D>::open().await;
    let calls = CountingLayer(Arc::default());
    let script = Script::new().on_order(|mut call| {
        async move {
            call.write().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
        .boxed()
    });
    let script = script.on_parcel(|_| std::future::pending().boxed());
    shop.orders(0..3).await;
    shop.parcels(0..2).await;

    let layers = ServiceBuilder::new()
        .layer(calls.clone())
        .layer(TimeoutLayer::new(Duration::from_millis(10)));
    let router = Router::<D::Table, D::Inbox, _>::builder(script)
        .layer(print_label, layers)
        .build();
    let report = shop.serving(router).build().unwrap().drain().await.unwrap();

    assert_eq!(calls.0.load(Ordering::SeqCst), 2);
    assert_eq!((report.processed, report.failed), (3, 2), "{report}");
    assert_eq!(shop.effects().await, names(0..3));
}

/// The layered handler takes the transaction; a cut of its layer takes its writes back.
async fn a_layer_on_orders_alone<D: Database>(layered: fn(RouterOf<D>, Cut) -> RouterOf<D>) {
    let shop = Shop::<D>::open().await;
    let calls = CountingLayer(Arc::default());
    let script = Script::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number == 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..3).await;
    shop.parcels(0..2).await;

    let cut = Stack::new(TimeoutLayer::new(Duration::from_millis(200)), calls.clone());
    let router = layered(Router::builder(script), cut).build();
    let consumer = shop.serving(router);
    let report = consumer.workers(1).build().unwrap().drain().await.unwrap();

    assert_eq!(calls.0.load(Ordering::SeqCst), 3);
    assert_eq!((report.processed, report.failed), (4, 1), "{report}");
    assert_eq!(report.units_lost, 0, "{report}");
    assert_eq!(shop.effects().await, names([0, 2]));
    assert_eq!(
        shop.column("order-1", "error_message").await,
        "request timed out"
    );
}

type RouterOf<D> = RouterBuilder<<D as Database>::Table, <D as Database>::Inbox, Script<D>>;

type Cut = Stack<TimeoutLayer, CountingLayer>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_on_one_transactional_handler_wraps_no_other_on_sqlite() {
    a_layer_on_orders_alone::<Sqlite>(|router, cut| router.layer(shop::sqlite::book_order, cut))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_on_one_transactional_handler_wraps_no_other_on_postgres() {
    a_layer_on_orders_alone::<Postgres>(|router, cut| {
        router.layer(shop::postgres::book_order, cut)
    })
    .await;
}
