//! Events that cannot be published, and handlers that may not publish.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use eventflow::{
    ErrorKind, Failure, PublishError,
    outbox::{OutboxTable, SqliteOutbox},
    prelude::*,
};
use eventflow_tests::{
    shop::{Database, OrderPlaced, ParcelShipped, Script, Shop, Sqlite},
    worker::InboxAt,
};
use futures_util::FutureExt;

use super::outgoing;

on_every_database!(
    h7_an_event_that_cannot_be_published_makes_a_dead_letter_of_its_cause,
    h7_a_handler_that_goes_on_after_it_makes_one_too,
    a_payload_that_jsonb_refuses_is_published,
    a_consumer_whose_handlers_publish_needs_the_table,
);

/// More than a payload may hold.
#[derive(Serialize, Deserialize, Event)]
struct Catalogue {
    text: String,
}

impl Catalogue {
    fn too_large() -> Self {
        Self {
            text: "x".repeat(1024 * 1024),
        }
    }
}

async fn h7_an_event_that_cannot_be_published_makes_a_dead_letter_of_its_cause<D: Database>() {
    refused::<D>(|outbox| {
        outbox.publish(&Catalogue::too_large())?;
        Ok(())
    })
    .await;
}

async fn h7_a_handler_that_goes_on_after_it_makes_one_too<D: Database>() {
    refused::<D>(|outbox| {
        outbox.publish(&Catalogue::too_large()).unwrap_err();
        Ok(())
    })
    .await;
}

/// One of three handlers publishes what is too large, after an event that is not.
async fn refused<D: Database>(publish: fn(&mut Outbox) -> Result<(), Failure>) {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    let script = Script::new().on_order(move |mut call| {
        async move {
            call.write().await?;
            let number = call.event.number;
            call.outbox.publish(&ParcelShipped { number })?;
            if number == 1 {
                publish(call.outbox)?;
            }
            Ok(())
        }
        .boxed()
    });

    let report = shop
        .consumer(script)
        .workers(1)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    assert_eq!((report.processed, report.dead_lettered), (2, 1), "{report}");
    assert_eq!(
        outgoing(&shop, "causation_id").await,
        ["order-0", "order-2"]
    );
    assert_eq!(shop.effects().await, ["order-0", "order-2"]);
    let [dead] = &shop.dead_letters().await[..] else {
        panic!("there is one dead letter");
    };
    assert_eq!(dead.envelope.metadata().event_id, "order-1");
    let reason = "event `Catalogue` cannot be published";
    assert!(
        dead.error_message.contains(reason),
        "{}",
        dead.error_message
    );
    assert!(
        dead.error_message.contains("1048576"),
        "{}",
        dead.error_message
    );
}

async fn a_payload_that_jsonb_refuses_is_published<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let script = Script::new().on_order(|call| {
        async move {
            let text = "a NUL: \0".to_owned();
            call.outbox.publish(&Catalogue { text })?;
            Ok(())
        }
        .boxed()
    });

    shop.consumer(script)
        .workers(1)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    let payloads = outgoing(&shop, "payload").await;
    assert_eq!(payloads, [r#"{"text":"a NUL: \u0000"}"#]);
}

async fn a_consumer_whose_handlers_publish_needs_the_table<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.database.change("DROP TABLE event_outbox").await;
    shop.orders(0..1).await;

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let error = consumer
        .run_until(std::future::pending::<()>())
        .await
        .unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("event_outbox"), "{error}");
    assert!(error.to_string().contains("migrate()"), "{error}");
    assert_eq!(shop.counts().await.processed, 0);
}

#[handler(publishes(ParcelShipped))]
async fn ship(event: OrderPlaced, outbox: &mut Outbox) -> Result<(), PublishError> {
    let number = event.number;
    match number {
        0 => outbox.publish(&ParcelShipped { number }),
        _ => outbox.publish(&event),
    }
}

#[derive(EventSet)]
enum Orders {
    Placed(OrderPlaced),
}

#[router(events = Orders, handlers(ship))]
struct Shipping;

#[tokio::test]
async fn a_handler_publishes_what_it_says_and_nothing_else() {
    let shop = Shop::<Sqlite>::open().await;
    shop.orders(0..2).await;

    let consumer = shop.serving(Shipping::new(())).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.dead_lettered), (1, 1), "{report}");
    assert_eq!(outgoing(&shop, "event_type").await, ["ParcelShipped"]);
    let [dead] = &shop.dead_letters().await[..] else {
        panic!("there is one dead letter");
    };
    assert_eq!(
        dead.error_message,
        "handler `ship` does not say that it publishes `OrderPlaced`; name the event in its `publishes(…)`"
    );
}

/// A call that is repeated at once begins with an empty outbox.
#[handler(retry(attempts = 3, backoff = "1ms"))]
async fn ship_at_last(
    event: OrderPlaced,
    outbox: &mut Outbox,
    tx: &mut SqliteConnection,
    State(calls): State<Arc<AtomicU32>>,
) -> Result<(), Failure> {
    let number = event.number;
    outbox.publish(&ParcelShipped { number })?;
    sqlx::query("INSERT INTO effects VALUES ('shipped')")
        .execute(tx)
        .await?;
    match calls.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(Failure::retry("not yet")),
        _ => Ok(()),
    }
}

#[router(events = Orders, handlers(ship_at_last))]
struct ShippingAtLast;

#[tokio::test]
async fn what_a_repeated_call_has_published_is_gone() {
    let shop = Shop::<Sqlite>::open().await;
    shop.orders(0..1).await;

    let router = ShippingAtLast::new(Arc::default());
    let report = shop.serving(router).build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.published), (1, 1), "{report}");
    assert_eq!(outgoing(&shop, "event_type").await, ["ParcelShipped"]);
    assert_eq!(shop.effects().await, ["shipped"]);
}

#[tokio::test]
async fn an_outbox_of_another_name_takes_what_handlers_publish() {
    let shop = Shop::<Sqlite>::open().await;
    shop.orders(0..1).await;
    let InboxAt::Sqlite(file) = shop.database.at() else {
        panic!("it is a file");
    };
    let outbox = SqliteOutbox::builder(file).table("shipments");
    let outbox = outbox.open().await.unwrap();
    outbox.migrate().await.unwrap();

    let consumer = shop.serving(Shipping::new(())).outbox(outbox);
    consumer.build().unwrap().drain().await.unwrap();

    assert!(outgoing(&shop, "event_type").await.is_empty());
    let there = shop
        .database
        .texts("SELECT event_type FROM shipments")
        .await;
    assert_eq!(there, ["ParcelShipped"]);
}
