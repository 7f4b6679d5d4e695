//! Inline: a batch is stored, handled and settled by one commit, and acknowledged after it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow::{Failure, Report, Sink, Source, prelude::*};
use eventflow_tests::{
    always, eventually,
    gate::Gate,
    running::Running,
    shop::{Database, OnPostgres, PriceAsked, Script, Shop, names, order},
    site::Site,
    work::WorkRequested,
    worker::Worker,
};
use futures_util::FutureExt;
use tower::util::MapRequestLayer;

use super::{DEADLINE, note_states, states_of};

inline!(
    a_row_is_written_once_as_processed,
    a_row_is_acknowledged_after_its_commit_only,
    a_failing_handlers_row_is_failed_and_its_neighbours_are_processed,
    a_duplicate_in_the_same_batch_runs_once,
    a_duplicate_of_what_another_consumer_runs_waits_for_its_commit,
    a_duplicate_of_what_fails_at_another_consumer_is_one,
    malformed_unknown_and_ignored_entries_share_the_batch,
);

inline_on_postgres!(
    a_batch_leaves_one_version_of_each_row,
    workers_that_call_the_service_at_once_keep_their_transactions,
);

async fn a_row_is_written_once_as_processed<D: Database>() {
    let shop = Shop::<D>::open().await;
    note_states(&shop).await;
    let consumer = shop.consumer(Script::new()).build().unwrap();

    shop.orders(0..5).await;
    let orders = consumer.drain().await.unwrap();
    shop.parcels(0..5).await;
    let parcels = consumer.drain().await.unwrap();

    assert_eq!((orders.stored, orders.processed), (5, 5), "{orders}");
    assert_eq!((parcels.stored, parcels.processed), (5, 5), "{parcels}");
    for number in 0..5 {
        for kind in ["order", "parcel"] {
            let event_id = format!("{kind}-{number}");
            assert_eq!(states_of(&shop, &event_id).await, ["processed"]);
        }
    }
    assert_eq!(shop.effects().await, names(0..5));
}

/// A second version would have a place of its own.
async fn a_batch_leaves_one_version_of_each_row<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..5).await;

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.processed, 5, "{report}");
    let never_leased = "SELECT event_id FROM event_inbox WHERE locked_by IS NULL";
    assert_eq!(shop.database.texts(never_leased).await.len(), 5);
    let places = "SELECT ctid::text FROM event_inbox ORDER BY ctid";
    let places = shop.database.texts(places).await;
    assert_eq!(places, ["(0,1)", "(0,2)", "(0,3)", "(0,4)", "(0,5)"]);
    let transactions = "SELECT DISTINCT xmin::text FROM event_inbox
        UNION SELECT DISTINCT xmin::text FROM effects";
    let mut transactions = shop.database.texts(transactions).await;
    // A savepoint has a number of its own, one for each event or one for all.
    let most = if D::MODE.replay_safe { 2 } else { 6 };
    transactions.dedup();
    assert!(transactions.len() <= most, "{transactions:?}");
}

async fn workers_that_call_the_service_at_once_keep_their_transactions<D: OnPostgres>() {
    const BATCH: u32 = 20;
    const ORDERS: u32 = 4 * BATCH;

    let shop = Shop::<D>::open().await;
    note_states(&shop).await;
    shop.orders(0..ORDERS).await;
    // Each call takes long enough for the other worker's to meet it.
    #[expect(clippy::disallowed_methods, reason = "a call blocks its thread")]
    let linger = MapRequestLayer::new(|delivery: Delivery<D::Inbox>| {
        std::thread::sleep(Duration::from_millis(1));
        delivery
    });
    let consumer = shop.consumer(Script::new()).layer(linger);
    let consumer = consumer.workers(2).batch_size(BATCH as usize);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || {
        shop.counts().await.processed == u64::from(ORDERS)
    })
    .await;
    running.stop().await;

    let again = "SELECT event_id FROM states WHERE status = 'processing'";
    let again = shop.database.texts(again).await.len();
    // A call may be cut off from its CPU for longer than the other worker waits for it.
    assert!(again < ORDERS as usize / 4, "{again} were written again");
}

/// At each point the worker stands still; nothing is acknowledged there, and what another does later
/// is what was not committed.
async fn a_row_is_acknowledged_after_its_commit_only<D: Database>() {
    for (point, committed) in [
        ("before_commit", false),
        ("after_settle_commit", true),
        ("before_ack", true),
    ] {
        let site = Site::<D>::start().await;
        let ids = site.publish((0..5).map(|_| WorkRequested::taking(0))).await;
        let mut stands = Worker::start_to_fail(&site.worker(), &format!("{point}=stall"));
        stands.logs_say("fail point").await;

        assert_eq!(site.pending("billing").await, 5, "{point}");
        let done = if committed { ids.clone() } else { vec![] };
        assert_eq!(site.rows("processed").await, done, "{point}");
        assert_eq!(site.effects().await, done, "{point}");
        stands.kill();

        let mut worker = Worker::start(&site.worker());
        site.await_rows("processed", &ids).await;
        site.await_acknowledged("billing").await;
        let report = worker.stop().await;
        let known = u64::try_from(done.len()).unwrap();
        assert_eq!(report.count("duplicates"), known, "{point}: {report:?}");
        assert_eq!(report.count("processed"), 5 - known, "{point}: {report:?}");
        assert_eq!(site.effects().await, ids, "{point}");
        assert_eq!(site.column("retry_count").await, ["0"; 5], "{point}");
    }
}

async fn a_failing_handlers_row_is_failed_and_its_neighbours_are_processed<D: Database>() {
    let shop = Shop::<D>::open().await;
    note_states(&shop).await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            match call.event.number {
                3 => Err(Failure::retry("not yet")),
                5 => Err(Failure::dead_letter("no such customer")),
                _ => Ok(()),
            }
        }
        .boxed()
    });
    shop.orders(0..8).await;

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    let ended = (report.processed, report.failed, report.dead_lettered);
    assert_eq!(ended, (6, 1, 1), "{report}");
    assert_eq!(report.units_lost, 0, "{report}");
    assert_eq!(shop.effects().await, names([0, 1, 2, 4, 6, 7]));
    for (event_id, status, message) in [
        ("order-3", "failed", "not yet"),
        ("order-5", "dead_letter", "no such customer"),
    ] {
        assert_eq!(shop.column(event_id, "retry_count").await, "1");
        assert_eq!(shop.column(event_id, "error_message").await, message);
        assert_eq!(states_of(&shop, event_id).await, ["processed", status]);
    }
    assert_eq!(states_of(&shop, "order-4").await, ["processed"]);
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_duplicate_in_the_same_batch_runs_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    shop.orders(0..3).await;

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.read, report.stored), (6, 3), "{report}");
    assert_eq!((report.processed, report.duplicates), (3, 3), "{report}");
    assert_eq!(shop.effects().await, names(0..3));
    assert_eq!(shop.stream.pending(), 0);
}

/// Two consumers of one group; the second gets order 0 again, and order 1, while order 0 runs at the
/// first. Answers what both have counted when the first has gone on, by what `answer` says.
async fn beside_an_open_batch<D: Database>(
    shop: &Shop<D>,
    answer: fn(attempt: u32) -> Result<(), Failure>,
) -> [Report; 2] {
    let gate = Gate::new();
    let script = Script::<D>::new().on_order({
        let gate = gate.clone();
        move |mut call| {
            let gate = gate.clone();
            async move {
                call.write().await?;
                gate.pass().await;
                answer(call.meta.attempt)
            }
            .boxed()
        }
    });
    shop.orders(0..1).await;
    let first = Running::start(shop.consumer(script).build().unwrap());
    gate.entered().await;
    let stream = shop.stream.clone().consumer("other");
    stream.open().await.unwrap();
    let other = Running::start(shop.consumer_of(stream, Script::new()).build().unwrap());
    // The first may get one of these batches, and keep it waiting.
    shop.stream.send(&[order(0), order(1)]).await.unwrap();

    always(super::A_WHILE, async || shop.effects().await.is_empty()).await;
    gate.open();
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    eventually(DEADLINE, async || shop.effects().await == names(0..2)).await;
    [first.stop().await, other.stop().await]
}

fn sum(reports: &[Report], count: fn(&Report) -> u64) -> u64 {
    reports.iter().map(count).sum()
}

async fn a_duplicate_of_what_another_consumer_runs_waits_for_its_commit<D: Database>() {
    let shop = Shop::<D>::open().await;

    let reports = beside_an_open_batch(&shop, |_| Ok(())).await;

    assert_eq!(sum(&reports, |report| report.duplicates), 1, "{reports:?}");
    assert_eq!(sum(&reports, |report| report.processed), 2, "{reports:?}");
    assert_eq!(sum(&reports, |report| report.failed), 0, "{reports:?}");
}

/// Its row is stored as failed, so the duplicate is one all the same, and what runs is the retry.
async fn a_duplicate_of_what_fails_at_another_consumer_is_one<D: Database>() {
    let shop = Shop::<D>::open().await;

    let reports = beside_an_open_batch(&shop, |attempt| match attempt {
        1 => Err(Failure::retry_after(Duration::ZERO, "not yet")),
        _ => Ok(()),
    })
    .await;

    assert_eq!(sum(&reports, |report| report.duplicates), 1, "{reports:?}");
    assert_eq!(sum(&reports, |report| report.processed), 2, "{reports:?}");
    // Order 1 as well, if it ran at the first one.
    let failed = sum(&reports, |report| report.failed);
    assert!((1..=2).contains(&failed), "{reports:?}");
}

/// A type that the shop does not know.
#[derive(Debug, Serialize, Deserialize, Event)]
struct OrderRefunded {}

async fn malformed_unknown_and_ignored_entries_share_the_batch<D: Database>() {
    let shop = Shop::<D>::open().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new().on_order({
        let seen = Arc::clone(&seen);
        move |mut call| {
            seen.lock().unwrap().push(call.meta.event_id.clone());
            async move { call.write().await }.boxed()
        }
    });
    shop.orders(0..1).await;
    let malformed = shop.stream.publish_raw([("data", "no JSON")]);
    let unknown = Envelope::new(&OrderRefunded {}).unwrap();
    let unknown = unknown.with_event_id("refund-1");
    let ignored = Envelope::new(&PriceAsked { number: 1 }).unwrap();
    let sent = [unknown, ignored.with_event_id("asked-1"), order(1)];
    shop.stream.send(&sent).await.unwrap();

    let consumer = shop.consumer(script).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.read, report.stored), (5, 2), "{report}");
    let others = (report.malformed, report.unknown, report.ignored);
    assert_eq!(others, (1, 1, 1), "{report}");
    assert_eq!(*seen.lock().unwrap(), ["order-0", "order-1"]);
    assert_eq!(shop.event_ids("processed").await, names(0..2));
    let letter = format!("malformed:shop/{}", malformed.id);
    assert_eq!(shop.event_ids("dead_letter").await, [&*letter, "refund-1"]);
    assert_eq!(shop.effects().await, names(0..2));
    assert_eq!(shop.stream.pending(), 0);
}
