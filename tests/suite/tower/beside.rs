//! Layers that write in the transaction of the handler that they wrap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use eventflow::{Delivery, Failure};
use eventflow_tests::shop::{Database, Script, Shop, names};
use futures_util::{FutureExt, future::BoxFuture};
use tower::{Service, layer::layer_fn};

on_every_database!(
    a_layer_writes_after_its_handler_in_one_transaction,
    a_handler_that_is_called_again_takes_back_what_was_written_after_it,
    a_layer_that_drops_the_transaction_fails_the_attempt,
    a_layer_that_writes_before_its_handler_fails_the_attempt,
);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
    /// After it, without keeping.
    Dropped,
    /// After it, and then everything a second time.
    AfterTwice,
}

/// Writes an effect `audit` beside the handler's.
#[derive(Clone)]
struct Audit<S> {
    inner: S,
    when: When,
}

impl<S> Audit<S> {
    async fn write<D: Database>(delivery: &Delivery<D::Inbox>, keep: bool) -> Result<(), Failure> {
        let mut transaction = delivery.transaction().await?;
        D::write(transaction.connection()?, "audit").await?;
        if keep {
            transaction.keep();
        }
        Ok(())
    }
}

/// An audit of one kind of database.
struct AuditOf<S, D>(Audit<S>, std::marker::PhantomData<D>);

impl<S, D> Service<Delivery<D::Inbox>> for AuditOf<S, D>
where
    D: Database,
    S: Service<Delivery<D::Inbox>, Error = Failure> + Clone + Send + 'static,
    S::Response: Send,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<S::Response, Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery<D::Inbox>) -> Self::Future {
        let Audit { mut inner, when } = self.0.clone();
        async move {
            if when == When::Before {
                Audit::<S>::write::<D>(&delivery, true).await?;
            }
            let mut answer = inner.call(delivery.clone()).await?;
            if when != When::Before {
                Audit::<S>::write::<D>(&delivery, when != When::Dropped).await?;
            }
            if when == When::AfterTwice {
                answer = inner.call(delivery.clone()).await?;
                Audit::<S>::write::<D>(&delivery, true).await?;
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// Drains two orders through an audit; answers the report, the effects, and the runs.
async fn audited<D: Database>(shop: &Shop<D>, when: When) -> (eventflow::Report, u32) {
    let runs = Arc::new(AtomicU32::new(0));
    let script = Script::new().on_order({
        let runs = Arc::clone(&runs);
        move |mut call| {
            runs.fetch_add(1, Ordering::SeqCst);
            async move { call.write().await }.boxed()
        }
    });
    shop.orders(0..2).await;
    let audit =
        layer_fn(move |inner| AuditOf::<_, D>(Audit { inner, when }, std::marker::PhantomData));
    let consumer = shop.consumer(script).layer(audit).build().unwrap();
    let report = consumer.drain().await.unwrap();
    (report, runs.load(Ordering::SeqCst))
}

async fn a_layer_writes_after_its_handler_in_one_transaction<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (report, runs) = audited(&shop, When::After).await;

    assert_eq!((report.processed, runs), (2, 2), "{report}");
    let audits = ["audit", "audit"].map(str::to_owned).into_iter();
    let expected: Vec<_> = audits.chain(names(0..2)).collect();
    assert_eq!(shop.effects().await, expected);
}

async fn a_handler_that_is_called_again_takes_back_what_was_written_after_it<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (report, runs) = audited(&shop, When::AfterTwice).await;

    // Without a savepoint of its own it cannot take that back alone: it is run again with one.
    let again = u32::from(D::MODE.inline && D::MODE.replay_safe);
    assert_eq!((report.processed, runs), (2, 4 + again), "{report}");
    let audits = ["audit", "audit"].map(str::to_owned).into_iter();
    let expected: Vec<_> = audits.chain(names(0..2)).collect();
    assert_eq!(shop.effects().await, expected);
}

async fn a_layer_that_drops_the_transaction_fails_the_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (report, _) = audited(&shop, When::Dropped).await;

    assert_eq!((report.processed, report.failed), (0, 2), "{report}");
    assert!(shop.effects().await.is_empty());
}

async fn a_layer_that_writes_before_its_handler_fails_the_attempt<D: Database>() {
    let shop = Shop::<D>::open().await;

    let (report, runs) = audited(&shop, When::Before).await;

    assert_eq!((report.failed, runs), (2, 0), "{report}");
    assert!(shop.effects().await.is_empty());
    let message = shop.column("order-0", "error_message").await;
    assert!(message.contains("after its inner service"), "{message}");
}
