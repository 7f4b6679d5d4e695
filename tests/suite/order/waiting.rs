//! One at a time, in the order of the stream.

use std::time::Duration;

use eventflow::{
    Failure, Source as _,
    inbox::{Admission, Arrival, Holder, OrderedInbox as _},
};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, GROUP, Script, in_an_hour, soon},
};
use futures_util::FutureExt;

use super::{
    DEADLINE, NO_SECOND_LOOK, Overlaps, all_of, another, arrival, at_times_failing, consumer,
    drain, handled, in_order, open, publish,
};

on_every_database!(
    events_of_an_aggregate_run_one_at_a_time_in_the_order_of_the_stream,
    later_events_wait_for_a_retry_and_other_aggregates_go_on,
    events_behind_one_of_a_dead_worker_wait_for_it,
    a_backlog_that_waits_in_the_inbox_is_in_order,
    an_aggregate_with_many_events_lets_others_go_on,
);

async fn events_of_an_aggregate_run_one_at_a_time_in_the_order_of_the_stream<D: Database>() {
    let shop = open::<D>().await;
    let overlaps = Overlaps::default();
    let running = ["one", "two"].map(|name| {
        let script = at_times_failing(&overlaps);
        let consumer = consumer(&shop, name, script)
            .backoff(soon())
            .batch_size(20)
            .lease(NO_SECOND_LOOK);
        Running::start(consumer.build().unwrap())
    });

    for number in 0..12 {
        publish(&shop, (0..20).map(|aggregate| (aggregate, number))).await;
    }
    eventually(DEADLINE, async || shop.counts().await.processed == 240).await;
    for running in running {
        running.stop().await;
    }

    assert_eq!(handled(&shop).await, all_of(20, 12));
    assert!(overlaps.seen().is_empty());
}

async fn later_events_wait_for_a_retry_and_other_aggregates_go_on<D: Database>() {
    let shop = open::<D>().await;
    publish(&shop, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]).await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.meta.event_id == "000/000" && call.meta.attempt == 1 {
                return Err(Failure::retry("not yet"));
            }
            Ok(())
        }
        .boxed()
    });
    let consumer = consumer(&shop, "a", script).backoff(in_an_hour());
    let consumer = consumer.build().unwrap();

    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (2, 1), "{report}");
    assert_eq!(handled(&shop).await[&1], [0, 1]);
    consumer.drain_scheduled().await.unwrap();
    assert_eq!(handled(&shop).await[&0], [0, 1, 2]);
}

async fn events_behind_one_of_a_dead_worker_wait_for_it<D: Database>() {
    let shop = open::<D>().await;
    let dead = Holder {
        consumer: GROUP.to_owned(),
        name: "dead".to_owned(),
        lease: Duration::ZERO,
    };
    let (inbox, streams) = (shop.inbox(), shop.stream.streams());
    let reader = inbox.acquire_reading(&dead, &streams).await;
    let reader = reader.unwrap().unwrap();
    let arrivals = [(0, 0), (0, 1), (1, 0), (0, 2)].map(|(aggregate, number)| Arrival {
        admission: Admission::Run,
        ..arrival(aggregate, number)
    });
    let stored = inbox.insert_in_order(&dead, &reader, arrivals.to_vec());
    assert_eq!(stored.await.unwrap().unwrap().rows.len(), 2);

    let report = drain(consumer(&shop, "b", Script::new())).await;

    assert_eq!((report.recovered, report.processed), (2, 4), "{report}");
    assert_eq!(handled(&shop).await[&0], [0, 1, 2]);
}

async fn a_backlog_that_waits_in_the_inbox_is_in_order<D: Database>() {
    let shop = open::<D>().await;
    for number in 0..16 {
        publish(&shop, (0..5).map(|aggregate| (aggregate, number))).await;
    }
    let overlaps = Overlaps::default();
    let consumer = consumer(&shop, "a", at_times_failing(&overlaps))
        .backoff(soon())
        .batch_size(5)
        .workers(2)
        .lease(NO_SECOND_LOOK);
    let running = Running::start(consumer.build().unwrap());

    eventually(DEADLINE, async || shop.counts().await.processed == 80).await;
    running.stop().await;

    assert_eq!(handled(&shop).await, all_of(5, 16));
    assert!(overlaps.seen().is_empty());
}

/// It is never without a next event, and has the turn first.
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
