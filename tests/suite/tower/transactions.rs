//! What layers and handlers do to the transaction that they were lent.

use eventflow::BoxError;
use eventflow_tests::shop::{Database, Script, Shop, names};
use futures_util::{FutureExt, future::BoxFuture};
use tower::{Service, layer::layer_fn};

on_every_database!(
    a_commit_that_a_handlers_writes_make_fail_is_its_failure,
    a_layer_may_run_its_service_in_a_task,
    a_statement_that_the_protocol_cannot_carry_is_a_failure,
);

/// The writes of order 1 break a constraint that is checked at the commit only.
async fn a_commit_that_a_handlers_writes_make_fail_is_its_failure<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.database
        .change("CREATE TABLE parents (id BIGINT PRIMARY KEY)")
        .await;
    shop.database
        .change("CREATE TABLE children (parent BIGINT NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            if call.event.number == 1 {
                call.execute("INSERT INTO children (parent) VALUES (7)")
                    .await?;
            }
            call.write().await
        }
        .boxed()
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 1), "{report}");
    assert_eq!(report.handed_back, 0, "{report}");
    assert_eq!(shop.effects().await, names([0, 2]));
    assert_eq!(shop.column("order-1", "retry_count").await, "1");
    let message = shop.column("order-1", "error_message").await;
    assert!(message.to_lowercase().contains("foreign key"), "{message}");
}

/// The task starts before the transaction is open: it has to wait for it.
async fn a_layer_may_run_its_service_in_a_task<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..20).await;

    let consumer = shop
        .consumer(Script::new())
        .layer(layer_fn(|inner| Spawning { inner }))
        .build()
        .unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (20, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..20));
}

struct Spawning<S> {
    inner: S,
}

impl<S, R> Service<R> for Spawning<S>
where
    S: Service<R>,
    S::Response: Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = self.inner.call(request);
        let task = tokio::spawn(async move { call.await.map_err(Into::into) });
        async move { task.await? }.boxed()
    }
}

/// It would fail the same way each time, so it must not run for ever with no attempt counted.
async fn a_statement_that_the_protocol_cannot_carry_is_a_failure<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|_| {
        async { Err(sqlx::Error::Protocol("too many parameters".to_owned()).into()) }.boxed()
    });
    shop.orders(0..1).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.failed, report.handed_back), (1, 0), "{report}");
}
