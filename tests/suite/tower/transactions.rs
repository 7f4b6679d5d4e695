//! What layers and handlers do to the transaction that they were lent.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use eventflow::{BoxError, Delivery, Failure, prelude::*};
use eventflow_tests::shop::{Database, Script, Shop, in_an_hour, names};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};
use tower::{layer::layer_fn, service_fn};

on_every_database!(
    a_commit_that_a_handlers_writes_make_fail_is_its_failure,
    a_layer_may_run_its_service_in_a_task,
    a_task_that_keeps_the_transaction_for_too_long_loses_the_unit,
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

/// The engine waits five seconds for what is still in use, then does without it.
async fn a_task_that_keeps_the_transaction_for_too_long_loses_the_unit<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let calls = AtomicU32::new(0);
    let (ended, mut end) = mpsc::unbounded_channel();
    let service = service_fn(move |delivery: Delivery<D::Inbox>| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let ended = ended.clone();
        let (holds_it, held) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut transaction = delivery.transaction().await?;
            _ = holds_it.send(());
            let event_id = delivery.metadata().event_id.clone();
            D::write(transaction.connection()?, &event_id).await?;
            if first {
                tokio::time::sleep(Duration::from_secs(6)).await;
                D::write(transaction.connection()?, "too late").await?;
            }
            transaction.keep();
            _ = ended.send(());
            Ok::<(), Failure>(())
        });
        async move {
            if first {
                held.await.map_err(Failure::retry)?;
                return Ok(());
            }
            task.await.map_err(Failure::retry)?
        }
    });

    let consumer = shop.serving(service);
    let consumer = consumer.backoff(in_an_hour()).build().unwrap();
    let first = consumer.drain().await.unwrap();

    assert_eq!((first.processed, first.failed), (0, 1), "{first}");
    assert_eq!(first.units_lost, 1, "{first}");
    let message = shop.column("order-0", "error_message").await;
    assert!(message.contains("kept the transaction"), "{message}");
    end.recv()
        .await
        .expect("the task could go on in the transaction");
    assert!(shop.effects().await.is_empty());

    let second = consumer.drain_scheduled().await.unwrap();
    assert_eq!((second.processed, second.failed), (1, 0), "{second}");
    assert_eq!(shop.effects().await, names(0..1));
    assert_eq!(shop.column("order-0", "retry_count").await, "1");
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
