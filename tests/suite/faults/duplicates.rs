//! D: the same event again, and events of one aggregate out of order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow::{Failure, Report, Sink, prelude::*};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, OrderPlaced, Script, Shop, names},
};
use futures_util::FutureExt;

use super::{
    DEADLINE,
    redis_shop::{RedisShop, good_order},
};

on_every_database!(
    d1_an_event_that_two_consumers_get_many_times_has_one_row_and_one_effect,
    d2_events_of_one_aggregate_do_not_wait_for_each_other,
    d3_a_duplicate_after_the_retention_runs_again,
);

async fn d1_an_event_that_two_consumers_get_many_times_has_one_row_and_one_effect<D: Database>() {
    const EVENTS: usize = 20;
    const COPIES: usize = 50;

    let shop = RedisShop::<D>::open().await;
    let ids: Vec<_> = (0..EVENTS)
        .map(|number| format!("order-{number:02}"))
        .collect();
    let mut running = Vec::new();
    for _ in 0..2 {
        let consumer = shop.consumer(Script::new()).await.batch_size(10);
        running.push(Running::start(consumer.build().unwrap()));
    }

    let entries: Vec<_> = (0..COPIES)
        .flat_map(|_| ids.iter().map(|id| good_order(id)))
        .collect();
    shop.add(&entries).await;
    eventually(DEADLINE, async || shop.is_done().await).await;
    eventually(DEADLINE, async || shop.shop.counts().await.processing == 0).await;
    let mut reports = Vec::new();
    for running in running {
        reports.push(running.stop().await);
    }

    assert_eq!(shop.shop.effects().await, ids);
    assert_eq!(shop.shop.event_ids("processed").await, ids);
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let all = u64::try_from(EVENTS * COPIES).unwrap();
    let events = u64::try_from(EVENTS).unwrap();
    assert_eq!(sum(|report| report.read), all, "{reports:?}");
    assert_eq!(sum(|report| report.duplicates), all - events, "{reports:?}");
    assert_eq!(sum(|report| report.processed), events, "{reports:?}");
    assert!(reports.iter().all(|report| report.read > 0), "{reports:?}");
}

/// There is no order among events, also not per aggregate: a handler that needs one looks at what
/// its database has seen. So no event blocks another.
async fn d2_events_of_one_aggregate_do_not_wait_for_each_other<D: Database>() {
    let shop = Shop::<D>::open().await;
    let order_id = Uuid::now_v7();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new().on_order({
        let seen = Arc::clone(&seen);
        move |mut call| {
            let seen = Arc::clone(&seen);
            async move {
                assert_eq!(call.meta.aggregate_id, call.event.order_id);
                if call.event.number == 0 && call.meta.attempt == 1 {
                    return Err(Failure::retry("not yet"));
                }
                seen.lock().unwrap().push(call.event.number);
                call.write().await
            }
            .boxed()
        }
    });
    let events = (0..3).map(|number| {
        let event = OrderPlaced { order_id, number };
        let envelope = Envelope::new(&event).unwrap();
        envelope.with_event_id(format!("order-{number}"))
    });
    let events: Vec<_> = events.collect();
    shop.stream.send(&events).await.unwrap();

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    consumer.drain_scheduled().await.unwrap();

    assert_eq!(*seen.lock().unwrap(), [1, 2, 0]);
    assert_eq!(shop.effects().await, names(0..3));
}

/// What remembers an event is its row. How old an event is as it arrives is not measured.
async fn d3_a_duplicate_after_the_retention_runs_again<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..2).await;
    let consumer = shop.consumer(Script::new()).build().unwrap();
    consumer.drain().await.unwrap();
    shop.orders(0..1).await;
    let within = consumer.drain().await.unwrap();
    assert_eq!((within.processed, within.duplicates), (0, 1), "{within}");

    let forgetful = shop
        .consumer(Script::new())
        .keep_processed(Duration::from_millis(1));
    let running = Running::start(forgetful.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 0).await;
    running.stop().await;
    shop.orders(0..1).await;
    let after = consumer.drain().await.unwrap();

    assert_eq!((after.processed, after.duplicates), (1, 0), "{after}");
    assert_eq!(shop.effects().await, names([0, 0, 1]));
}
