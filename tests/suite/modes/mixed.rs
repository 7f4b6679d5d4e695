//! What handlers say of themselves, beside each other: one that may be replayed and repeats its call at
//! once, and one that may not be replayed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use eventflow::{Report, Sink, prelude::*};
use eventflow_tests::shop::{Database, Inline, InlineReplaySafe, Owned, Postgres, Shop, Sqlite};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Booked {
    number: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Mailed {
    number: u32,
}

#[derive(Debug, EventSet)]
enum Events {
    Booked(Booked),
    Mailed(Mailed),
}

/// How often the handlers have run.
#[derive(Clone, Default)]
struct Runs {
    booked: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    mailed: Arc<AtomicU32>,
}

/// The handler of `Booked` may be replayed, and fails in its first two calls for the second event; that
/// of `Mailed` may not.
macro_rules! on {
    ($database:ident, $Database:ident, $Connection:ty, $Mode:ident) => {
        mod $database {
            use super::*;

            type D = $Database<$Mode>;

            #[handler(replay_safe, retry(attempts = 3, backoff = "1ms"))]
            async fn book(
                event: Booked,
                tx: &mut $Connection,
                State(runs): State<Runs>,
            ) -> Result<(), Failure> {
                runs.booked.fetch_add(1, Ordering::SeqCst);
                D::write(tx, &format!("booked-{}", event.number)).await?;
                if event.number == 1 && runs.failed.fetch_add(1, Ordering::SeqCst) < 2 {
                    return Err(Failure::retry("not yet"));
                }
                Ok(())
            }

            #[handler]
            async fn mail(
                event: Mailed,
                tx: &mut $Connection,
                State(runs): State<Runs>,
            ) -> Result<(), Failure> {
                runs.mailed.fetch_add(1, Ordering::SeqCst);
                D::write(tx, &format!("mailed-{}", event.number)).await?;
                Ok(())
            }

            #[router(events = Events, handlers(book, mail))]
            struct Table;

            async fn drained(events: &[Envelope]) -> (Shop<D>, Report, Runs) {
                let shop = Shop::<D>::open().await;
                let runs = Runs::default();
                shop.stream.send(events).await.unwrap();
                let consumer = shop.serving(Table::new(runs.clone())).workers(1);
                let report = consumer.build().unwrap().drain().await.unwrap();
                (shop, report, runs)
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_handler_that_may_be_replayed_repeats_its_call_at_once() {
                let (shop, report, runs) = drained(&[booked(0), booked(1), booked(2)]).await;

                assert_eq!((report.processed, report.failed), (3, 0), "{report}");
                let effects = ["booked-0", "booked-1", "booked-2"];
                assert_eq!(shop.effects().await, effects);
                assert_eq!(shop.column("booked-1", "retry_count").await, "0");
                // Its first failure takes back the first one's writes too; then both run with
                // savepoints, and the one repetition that is still needed is its own.
                assert_eq!(runs.booked.load(Ordering::SeqCst), 6);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_handler_that_may_not_be_replayed_keeps_its_unit_from_it() {
                let events = [mailed(0), booked(0), booked(1), mailed(1)];

                let (shop, report, runs) = drained(&events).await;

                assert_eq!((report.processed, report.failed), (4, 0), "{report}");
                let effects = ["booked-0", "booked-1", "mailed-0", "mailed-1"];
                assert_eq!(shop.effects().await, effects);
                assert_eq!(runs.mailed.load(Ordering::SeqCst), 2);
                // The second one is repeated twice, and takes nothing of the first one's back.
                assert_eq!(runs.booked.load(Ordering::SeqCst), 4);
            }
        }
    };
}

fn booked(number: u32) -> Envelope {
    let envelope = Envelope::new(&Booked { number }).unwrap();
    envelope.with_event_id(format!("booked-{number}"))
}

fn mailed(number: u32) -> Envelope {
    let envelope = Envelope::new(&Mailed { number }).unwrap();
    envelope.with_event_id(format!("mailed-{number}"))
}

on!(postgres, Postgres, PgConnection, Owned);
on!(postgres_inline, Postgres, PgConnection, Inline);
on!(sqlite, Sqlite, SqliteConnection, Owned);
on!(sqlite_inline, Sqlite, SqliteConnection, InlineReplaySafe);
