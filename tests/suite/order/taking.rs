//! Who passes a turn on takes the next event, if there is room.

use eventflow::{Envelope, Inbox as _, Source as _};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Script},
    site::Site,
    work::WorkRequested,
    worker::Worker,
};
use uuid::Uuid;

use super::{DEADLINE, NO_SECOND_LOOK, another, arrival, consumer, handled, in_order, open};

on_every_database!(
    events_that_wait_for_their_turn_take_no_claim,
    an_event_that_was_taken_by_a_commit_without_an_answer_runs,
    an_aggregate_with_many_events_lets_others_go_on,
);

/// Publishes five events of one aggregate; answers their ids.
async fn publish_five<D: Database>(site: &Site<D>) -> Vec<String> {
    let aggregate = Uuid::now_v7();
    let envelopes = (0..5).map(|_| {
        let envelope = Envelope::new(&WorkRequested::taking(0)).unwrap();
        envelope.with_aggregate_id(aggregate)
    });
    let envelopes: Vec<_> = envelopes.collect();
    site.publish_envelopes(&envelopes).await
}

/// Runs five events of one aggregate in a worker that behaves so at a fail point, with leases that no
/// deadline waits for.
async fn runs_five<D: Database>(fail_point: &str) {
    let site = Site::<D>::start().await;
    let ids = publish_five(&site).await;
    let mut config = site.worker();
    config.ordered = true;
    config.lease = NO_SECOND_LOOK;
    let mut worker = Worker::start_to_fail(&config, fail_point);

    site.await_rows("processed", &ids).await;
    let report = worker.stop().await;

    assert_eq!(site.effects().await, ids);
    assert_eq!(site.column("retry_count").await, ["0"; 5]);
    assert_eq!(report.count("recovered"), 0, "{report:?}");
}

async fn events_that_wait_for_their_turn_take_no_claim<D: Database>() {
    runs_five::<D>("after_claim=stall").await;
}

async fn an_event_that_was_taken_by_a_commit_without_an_answer_runs<D: Database>() {
    runs_five::<D>("after_settle_commit=fail*2").await;
}

/// The others are due from the beginning, and it is never without a next event.
async fn an_aggregate_with_many_events_lets_others_go_on<D: Database>() {
    const MANY: u32 = 200;
    const OTHERS: u32 = 30;

    let shop = open::<D>().await;
    let (inbox, holder) = (in_order(&shop), another());
    let reader = inbox.acquire_reading(&holder, &shop.stream.streams()).await;
    let reader = reader.unwrap().unwrap();
    let many = (0..MANY).map(|number| arrival(0, number));
    let others = (1..=OTHERS).map(|aggregate| arrival(aggregate, 0));
    let stored = inbox.insert_in_order(&holder, &reader, many.chain(others).collect());
    assert!(stored.await.unwrap().is_some());
    inbox.release_reading(&holder, &reader).await.unwrap();

    let consumer = consumer(&shop, "a", Script::new());
    let consumer = consumer.workers(1).batch_size(2).lease(NO_SECOND_LOOK);
    let running = Running::start(consumer.build().unwrap());
    let all = u64::from(MANY + OTHERS);
    eventually(DEADLINE, async || shop.counts().await.processed == all).await;
    running.stop().await;

    let effects = shop
        .database
        .texts("SELECT name FROM effects ORDER BY rowid")
        .await;
    let last = effects.iter().rposition(|name| !name.starts_with("000/"));
    assert!(last.unwrap() < effects.len() / 2, "{effects:?}");
    let many: Vec<u32> = (0..MANY).collect();
    assert_eq!(handled(&shop).await[&0], many);
}
