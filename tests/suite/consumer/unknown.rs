//! Events of a type that the router does not know, after they were stored; fresh ones are row M2.

use std::time::Duration;

use eventflow::{
    Failure, MemoryStream, Report, consumer::UnknownEvents, inbox::backoff::Backoff, prelude::*,
};
use eventflow_tests::shop::{Database, Script, Shop, in_an_hour};

on_every_database!(
    an_unknown_event_is_left_for_a_deploy_that_knows_it,
    a_row_of_an_earlier_version_is_kept,
    a_row_of_an_earlier_version_is_settled,
    a_row_of_an_earlier_version_is_left_for_a_later_one,
);

/// What a later version of the shop knows.
#[derive(Debug, Serialize, Deserialize, Event)]
struct OrderRefunded {
    number: u32,
}

#[derive(Debug, EventSet)]
enum Refunds {
    Refunded(OrderRefunded),
}

#[handler]
async fn pay_back(
    _event: OrderRefunded,
    State(answer): State<fn() -> Result<(), Failure>>,
) -> Result<(), Failure> {
    answer()
}

#[router(events = Refunds, handlers(pay_back))]
struct LaterShop;

async fn refund(stream: &MemoryStream) {
    let envelope = Envelope::new(&OrderRefunded { number: 1 }).unwrap();
    let envelope = envelope.with_event_id("refund-1");
    stream.send(&[envelope]).await.unwrap();
}

/// Drains with a version that knows refunds.
async fn knowing<D: Database>(shop: &Shop<D>, answer: fn() -> Result<(), Failure>) -> Report {
    let consumer = shop.serving(LaterShop::new(answer));
    let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
    let consumer = consumer.backoff(backoff).max_retries(2).build().unwrap();
    consumer.drain().await.unwrap()
}

/// Drains with a version that does not.
async fn unknowing<D: Database>(shop: &Shop<D>, policy: UnknownEvents) -> Report {
    let consumer = shop.consumer(Script::new()).unknown_events(policy);
    consumer.build().unwrap().drain().await.unwrap()
}

async fn an_unknown_event_is_left_for_a_deploy_that_knows_it<D: Database>() {
    let shop = Shop::<D>::open().await;
    refund(&shop.stream).await;

    let report = unknowing(&shop, UnknownEvents::Leave).await;
    assert_eq!((report.unknown, report.processed), (1, 0), "{report}");
    let again = unknowing(&shop, UnknownEvents::Leave).await;
    assert_eq!(again, Report::default());
    assert_eq!(shop.counts().await.pending, 1);

    let report = knowing(&shop, || Ok(())).await;
    assert_eq!(report.processed, 1, "{report}");
}

/// A row that a version stored which knew the type, and did not finish.
async fn stored_by_an_earlier_version<D: Database>() -> Shop<D> {
    let shop = Shop::<D>::open().await;
    refund(&shop.stream).await;
    let consumer = shop.serving(LaterShop::new(
        (|| Err(Failure::retry("not yet"))) as fn() -> _,
    ));
    let consumer = consumer.backoff(in_an_hour()).build().unwrap();
    consumer.drain().await.unwrap();
    assert_eq!(shop.counts().await.failed, 1);
    let now = "UPDATE event_inbox SET next_retry_at = received_at";
    shop.database.change(now).await;
    shop
}

async fn a_row_of_an_earlier_version_is_kept<D: Database>() {
    let shop = stored_by_an_earlier_version::<D>().await;

    let report = unknowing(&shop, UnknownEvents::DeadLetter).await;

    assert_eq!((report.read, report.dead_lettered), (0, 1), "{report}");
    assert_eq!(
        shop.dead_letters().await[0].error_message,
        "no handler for events of type `OrderRefunded`"
    );
}

async fn a_row_of_an_earlier_version_is_settled<D: Database>() {
    let shop = stored_by_an_earlier_version::<D>().await;

    unknowing(&shop, UnknownEvents::Ignore).await;

    assert_eq!(shop.event_ids("processed").await, ["refund-1"]);
}

async fn a_row_of_an_earlier_version_is_left_for_a_later_one<D: Database>() {
    let shop = stored_by_an_earlier_version::<D>().await;

    unknowing(&shop, UnknownEvents::Leave).await;
    assert_eq!(shop.event_ids("pending").await, ["refund-1"]);
    let report = knowing(&shop, || Ok(())).await;

    assert_eq!(report.processed, 1, "{report}");
    assert_eq!(shop.column("refund-1", "retry_count").await, "1");
}
