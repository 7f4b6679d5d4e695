//! A plain tower service instead of a router: it takes every event, with the transaction.

use eventflow::{Delivery, Failure};
use eventflow_tests::shop::{Database, Script, Shop, names, order, parcel, router};
use tower::{ServiceExt, service_fn};

on_every_database!(
    a_plain_service_keeps_what_it_says,
    a_plain_service_that_keeps_nothing_has_failed,
    a_plain_service_may_leave_the_transaction_alone,
    a_router_is_a_service_without_a_consumer,
);

async fn a_plain_service_keeps_what_it_says<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..5).await;

    let service = service_fn(|delivery: Delivery<D::Inbox>| async move {
        let mut transaction = delivery.transaction().await?;
        D::write(transaction.connection()?, &delivery.metadata().event_id).await?;
        if delivery.metadata().event_id == "order-3" {
            return Err(Failure::dead_letter("not this one"));
        }
        transaction.keep();
        Ok(())
    });
    let consumer = shop.serving(service);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.dead_lettered), (4, 1), "{report}");
    assert_eq!(shop.effects().await, names([0, 1, 2, 4]));
}

async fn a_plain_service_that_keeps_nothing_has_failed<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;

    let service = service_fn(|delivery: Delivery<D::Inbox>| async move {
        let mut transaction = delivery.transaction().await?;
        D::write(transaction.connection()?, "not kept").await?;
        Ok::<(), Failure>(())
    });
    let consumer = shop.serving(service);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.failed, 1, "{report}");
    assert!(shop.effects().await.is_empty());
    let message = shop.column("order-0", "error_message").await;
    assert!(message.contains("Transaction::keep"), "{message}");
}

async fn a_plain_service_may_leave_the_transaction_alone<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;

    let service = service_fn(|_: Delivery<D::Inbox>| async { Ok::<(), Failure>(()) });
    let consumer = shop.serving(service);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.processed, 3, "{report}");
}

async fn a_router_is_a_service_without_a_consumer<D: Database>() {
    let router = router::<D>(Script::new());

    let parcel = Delivery::detached(parcel(1));
    router.clone().oneshot(parcel).await.unwrap();
    let order = Delivery::detached(order(1));
    let failure = router.oneshot(order).await.unwrap_err();

    assert!(failure.to_string().contains("no transaction"), "{failure}");
}
