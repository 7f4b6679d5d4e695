//! Leases: rows of processes that went away, of those that are slow, and of those that come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eventflow::{
    Failure, Inbox, Report,
    inbox::{Admission, Arrival, Due, Holder, Recovery},
    prelude::Uuid,
};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Builder, Database, GROUP, Script, Shop, names, parcel},
};
use futures_util::FutureExt;
use tokio::sync::Barrier;

use super::DEADLINE;

on_every_database!(
    rows_of_a_process_that_went_away_run_in_the_recovery_lane,
    a_row_is_recovered_when_its_lease_lapses_not_at_the_next_poll,
    an_event_that_ends_its_process_is_a_dead_letter,
    leases_are_extended_while_handlers_run,
    a_row_in_a_long_transaction_is_not_taken_over,
    finished_rows_are_deleted_after_their_retention,
    a_lapsed_row_is_recovered_by_one_of_two_nodes,
    a_finished_row_is_deleted_by_one_of_two_nodes,
);

const SHORT: Duration = Duration::from_millis(100);

fn dead_process(lease: Duration) -> Holder {
    Holder {
        consumer: GROUP.to_owned(),
        name: "a dead process".to_owned(),
        lease,
    }
}

/// Two consumers of one group at once.
struct Nodes([Running; 2]);

impl Nodes {
    fn start<D: Database>(nodes: [Builder<D>; 2]) -> Self {
        Self(nodes.map(|node| Running::start(node.build().unwrap())))
    }

    async fn stop(self) -> [Report; 2] {
        let [one, other] = self.0;
        [one.stop().await, other.stop().await]
    }
}

/// Stores orders as failed rows, due in an hour, which a process then claims that goes away.
async fn claimed_by_a_dead_process<D: Database>(shop: &Shop<D>, orders: u32) {
    let script = Script::new().on_order(|_| async { Err(Failure::retry("not yet")) }.boxed());
    shop.orders(0..orders).await;
    shop.consumer(script)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();
    shop.database
        .change("UPDATE event_inbox SET retry_count = 0")
        .await;
    let holder = dead_process(Duration::from_millis(1));
    let claimed = shop.inbox().claim(&holder, Due::Later, 100).await.unwrap();
    assert_eq!(claimed.len(), usize::try_from(orders).unwrap());
}

async fn rows_of_a_process_that_went_away_run_in_the_recovery_lane<D: Database>() {
    let shop = Shop::<D>::open().await;
    claimed_by_a_dead_process(&shop, 5).await;

    let running = Running::start(shop.consumer(Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 5).await;
    let report = running.stop().await;

    assert_eq!((report.recovered, report.processed), (5, 5), "{report}");
    assert_eq!(shop.effects().await, names(0..5));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}

async fn a_row_is_recovered_when_its_lease_lapses_not_at_the_next_poll<D: Database>() {
    let shop = Shop::<D>::open().await;
    taken_by_a_dead_process(&shop, 1, Duration::from_secs(1)).await;

    let consumer = shop.consumer(Script::new()).poll_interval(DEADLINE * 10);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let report = running.stop().await;

    assert_eq!((report.recovered, report.processed), (1, 1), "{report}");
}

async fn an_event_that_ends_its_process_is_a_dead_letter<D: Database>() {
    let shop = Shop::<D>::open().await;
    claimed_by_a_dead_process(&shop, 1).await;
    // Processes that take the row over and die with it, until its last run.
    let holder = dead_process(Duration::from_millis(1));
    let mut recovered = 0;
    while recovered < 3 {
        match shop.inbox().recover(&holder).await.unwrap() {
            Recovery::Run(_) => recovered += 1,
            Recovery::None => tokio::task::yield_now().await,
            Recovery::DeadLetter(metadata) => panic!("too early: {metadata:?}"),
        }
    }

    let running = Running::start(shop.consumer(Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.dead_letter == 1).await;
    let report = running.stop().await;

    assert_eq!((report.crash_looped, report.processed), (1, 0), "{report}");
    let message = shop.column("order-0", "error_message").await;
    assert!(message.starts_with("crash_loop"), "{message}");
    assert!(shop.effects().await.is_empty());
}

async fn leases_are_extended_while_handlers_run<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_parcel(|_| {
        async {
            tokio::time::sleep(SHORT * 10).await;
            Ok(())
        }
        .boxed()
    });
    shop.parcels(0..3).await;

    let consumer = shop.consumer(script).lease(SHORT * 3);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 3).await;
    let report = running.stop().await;

    assert_eq!((report.recovered, report.lease_lost), (0, 0), "{report}");
}

async fn a_row_in_a_long_transaction_is_not_taken_over<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            call.write().await?;
            tokio::time::sleep(SHORT * 10).await;
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..1).await;

    let consumer = shop.consumer(script).lease(SHORT * 3);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let report = running.stop().await;

    assert_eq!((report.recovered, report.lease_lost), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..1));
}

async fn finished_rows_are_deleted_after_their_retention<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    shop.stream.publish_raw([("data", "no JSON")]);
    shop.consumer(Script::new())
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    let consumer = shop
        .consumer(Script::new())
        .keep_processed(Duration::from_millis(1));
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 0).await;
    let report = running.stop().await;

    assert_eq!(report.purged, 3, "{report}");
    assert_eq!(shop.counts().await.dead_letter, 1);
}

/// Stores parcels for a process that goes away.
async fn taken_by_a_dead_process<D: Database>(shop: &Shop<D>, parcels: u32, lease: Duration) {
    let arrivals = (0..parcels).map(|number| Arrival {
        id: Uuid::now_v7(),
        envelope: parcel(number),
        raw: None,
        admission: Admission::Run,
        max_retries: 3,
    });
    let holder = dead_process(lease);
    let insertion = shop.inbox().insert(&holder, arrivals.collect()).await;
    assert_eq!(
        insertion.unwrap().rows.len(),
        usize::try_from(parcels).unwrap()
    );
}

/// Each run waits for one of the other node: its recovery lane runs one row at a time.
async fn a_lapsed_row_is_recovered_by_one_of_two_nodes<D: Database>() {
    const LAPSED: u32 = 20;
    let shop = Shop::<D>::open().await;
    taken_by_a_dead_process(&shop, LAPSED, Duration::from_millis(1)).await;
    let runs = Arc::new(AtomicU64::new(0));
    let both = Arc::new(Barrier::new(2));
    let node = || {
        let (runs, both) = (Arc::clone(&runs), Arc::clone(&both));
        shop.consumer(Script::new().on_parcel(move |_| {
            runs.fetch_add(1, Ordering::SeqCst);
            let both = Arc::clone(&both);
            async move {
                both.wait().await;
                Ok(())
            }
            .boxed()
        }))
    };

    let nodes = Nodes::start([node(), node()]);
    eventually(DEADLINE, async || {
        shop.counts().await.processed == u64::from(LAPSED)
    })
    .await;
    let reports = nodes.stop().await;

    let half = u64::from(LAPSED / 2);
    assert_eq!(reports.each_ref().map(|report| report.recovered), [half; 2]);
    assert!(reports.iter().all(|report| report.lease_lost == 0));
    assert_eq!(runs.load(Ordering::SeqCst), u64::from(LAPSED));
}

/// More rows than one batch has, so that both nodes delete some.
async fn a_finished_row_is_deleted_by_one_of_two_nodes<D: Database>() {
    const FINISHED: u32 = 5_000;
    let shop = Shop::<D>::open().await;
    shop.parcels(0..FINISHED).await;
    let consumer = shop.consumer(Script::new()).batch_size(1_000);
    consumer.build().unwrap().drain().await.unwrap();
    assert_eq!(shop.counts().await.processed, u64::from(FINISHED));

    let node = || {
        shop.consumer(Script::new())
            .keep_processed(Duration::from_millis(1))
    };
    let nodes = Nodes::start([node(), node()]);
    eventually(DEADLINE, async || shop.counts().await.processed == 0).await;
    let reports = nodes.stop().await;

    let purged = reports.each_ref().map(|report| report.purged);
    assert_eq!(
        purged.iter().sum::<u64>(),
        u64::from(FINISHED),
        "{purged:?}"
    );
}
