//! Batches that are stored, run and settled by one commit, and events that share a savepoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Report, prelude::*};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Postgres, Script, Shop, in_an_hour, names},
};
use futures_util::FutureExt;

use super::DEADLINE;

on_every_database!(
    an_inline_batch_is_processed_by_the_commit_that_stores_it,
    a_failure_in_an_inline_batch_takes_back_only_its_own,
    an_inline_unit_that_a_handler_ends_costs_its_neighbours_nothing,
    a_slow_call_without_a_transaction_goes_on_after_the_inline_commit,
    a_duplicate_in_an_inline_batch_is_counted_and_not_run,
);

const ORDERS: u32 = 7;
const WRONG: u32 = 3;

async fn an_inline_batch_is_processed_by_the_commit_that_stores_it<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..ORDERS).await;
    shop.stream.publish_raw([("data", "no JSON")]);

    let consumer = shop.consumer(Script::new()).inline().build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.read, report.stored), (8, 7), "{report}");
    assert_eq!((report.processed, report.malformed), (7, 1), "{report}");
    assert_eq!(shop.event_ids("processed").await, names(0..ORDERS));
    assert_eq!(shop.effects().await, names(0..ORDERS));
    // It was nobody's lease on the way.
    let never_leased = "SELECT event_id FROM event_inbox WHERE locked_by IS NULL";
    assert_eq!(shop.database.texts(never_leased).await.len(), 8);
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_failure_in_an_inline_batch_takes_back_only_its_own<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            match call.event.number {
                WRONG => Err(Failure::retry("out of stock")),
                _ => Ok(()),
            }
        }
        .boxed()
    });
    shop.orders(0..ORDERS).await;

    let consumer = shop.consumer(script).inline().build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (6, 1), "{report}");
    assert_eq!(report.units_lost, 0, "{report}");
    assert_eq!(shop.event_ids("failed").await, names([WRONG]));
    assert_eq!(shop.column("order-3", "retry_count").await, "1");
    let others = (0..ORDERS).filter(|number| *number != WRONG);
    assert_eq!(shop.effects().await, names(others));
}

async fn an_inline_unit_that_a_handler_ends_costs_its_neighbours_nothing<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            if call.event.number == WRONG {
                // Refused or not, the handler says that all is well.
                _ = call.execute("ROLLBACK").await;
                return Ok(());
            }
            call.write().await
        }
        .boxed()
    });
    shop.orders(0..ORDERS).await;

    let consumer = shop.consumer(script).inline().build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (6, 1), "{report}");
    assert_eq!((report.stored, report.duplicates), (7, 0), "{report}");
    assert_eq!(shop.column("order-3", "retry_count").await, "1");
    assert_eq!(shop.column("order-4", "retry_count").await, "0");
    let others = (0..ORDERS).filter(|number| *number != WRONG);
    assert_eq!(shop.effects().await, names(others));
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_slow_call_without_a_transaction_goes_on_after_the_inline_commit<D: Database>() {
    let shop = Shop::<D>::open().await;
    let given = Arc::new(tokio::sync::Semaphore::new(0));
    let permits = Arc::clone(&given);
    let script = Script::<D>::new().on_parcel(move |_| {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.unwrap().forget();
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..1).await;
    shop.parcels(0..1).await;

    let running = Running::start(shop.consumer(script).inline().build().unwrap());

    // The order does not wait for the parcel, and the parcel has a lease meanwhile.
    let processed = async || shop.event_ids("processed").await == names(0..1);
    eventually(DEADLINE, processed).await;
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == ["parcel-0"]
    })
    .await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    given.add_permits(1);
    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;
    let report = running.stop().await;
    assert_eq!((report.processed, report.lease_lost), (2, 0), "{report}");
}

async fn a_duplicate_in_an_inline_batch_is_counted_and_not_run<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    shop.orders(0..5).await;

    let consumer = shop.consumer(Script::new()).inline().build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.duplicates), (5, 3), "{report}");
    assert_eq!(shop.effects().await, names(0..5));
    assert_eq!(shop.stream.pending(), 0);
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Booked {
    number: u32,
}

#[derive(Debug, EventSet)]
enum Bookings {
    #[allow(dead_code, reason = "only its type is asked for")]
    Booked(Booked),
}

/// How often bookings were made, committed or not.
type Runs = Arc<AtomicU32>;

#[handler(replay_safe)]
async fn book(
    event: Booked,
    tx: &mut PgConnection,
    State(runs): State<Runs>,
) -> Result<(), Failure> {
    runs.fetch_add(1, Ordering::SeqCst);
    Postgres::write(tx, &format!("booking-{}", event.number)).await?;
    match event.number {
        WRONG => Err(Failure::retry("overbooked")),
        _ => Ok(()),
    }
}

#[router(events = Bookings, handlers(book))]
struct Ledger;

async fn bookings(numbers: std::ops::Range<u32>, inline: bool) -> (Shop<Postgres>, Runs, Report) {
    let shop = Shop::<Postgres>::open().await;
    let bookings = numbers.map(|number| Envelope::new(&Booked { number }).unwrap());
    let bookings: Vec<_> = bookings.collect();
    shop.stream.send(&bookings).await.unwrap();
    let runs = Runs::default();
    let ledger = Ledger::new(Arc::clone(&runs));
    let consumer = Consumer::builder(shop.stream.clone(), shop.inbox(), ledger)
        .workers(1)
        .backoff(in_an_hour())
        .lease(Duration::from_mins(1));
    let consumer = if inline { consumer.inline() } else { consumer };
    let report = consumer.build().unwrap().drain().await.unwrap();
    (shop, runs, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_share_a_savepoint_run_once_while_none_fails() {
    for inline in [false, true] {
        let (shop, runs, report) = bookings(0..WRONG, inline).await;

        assert_eq!((report.processed, report.units_lost), (3, 0), "{report}");
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!(
            shop.effects().await,
            ["booking-0", "booking-1", "booking-2"]
        );
    }
}

/// Three had run before the fourth failed: all run again, with a savepoint each, and so do those after
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_among_events_that_share_a_savepoint_costs_the_others_nothing() {
    for inline in [false, true] {
        let (shop, runs, report) = bookings(0..6, inline).await;

        assert_eq!((report.processed, report.failed), (5, 1), "{report}");
        assert_eq!(report.units_lost, 0, "{report}");
        assert_eq!(runs.load(Ordering::SeqCst), 6 + WRONG + 1);
        let effects = [0, 1, 2, 4, 5].map(|number| format!("booking-{number}"));
        assert_eq!(shop.effects().await, effects);
    }
}
