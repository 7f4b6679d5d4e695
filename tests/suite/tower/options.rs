//! What `#[handler]` and `#[router]` are told: timeouts, immediate retries, a fallback, and
//! parameters of one's own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eventflow::{
    Delivery,
    consumer::UnknownEvents,
    handler::{FromDelivery, HandlerParam},
    prelude::*,
};
use eventflow_tests::shop::{Database, Postgres, Shop, Sqlite, in_an_hour};

/// Asks for money.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct ChargeAsked {
    charge: String,
}

/// Asks for a report of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct ReportAsked {
    name: String,
}

/// Is in no set.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct RefundAsked {
    fails: bool,
}

#[derive(Debug, EventSet)]
enum Payments {
    Charge(ChargeAsked),
    Report(ReportAsked),
}

/// When handlers were called, by what they were called for, and how many ran at once.
#[derive(Clone, Default)]
struct Calls {
    times: Arc<Mutex<BTreeMap<String, Vec<Instant>>>>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Calls {
    /// Notes a call; answers the how manieth it is.
    fn note(&self, name: &str) -> usize {
        let mut times = self.times.lock().unwrap();
        let times = times.entry(name.to_owned()).or_default();
        times.push(Instant::now());
        times.len()
    }

    fn counts(&self) -> Vec<(String, usize)> {
        let times = self.times.lock().unwrap();
        let count = |(name, times): (&String, &Vec<_>)| (name.clone(), times.len());
        times.iter().map(count).collect()
    }

    /// The shortest time between two calls.
    fn shortest_wait(&self, name: &str) -> Duration {
        let times = self.times.lock().unwrap();
        let waits = times[name].windows(2).map(|pair| pair[1] - pair[0]);
        waits.min().unwrap()
    }

    /// Takes its time, and notes how many do so at once.
    async fn run(&self) {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who asks, as the correlation id says.
struct Tenant(String);

impl HandlerParam for Tenant {}

impl<I: Inbox, S: Sync> FromDelivery<I, S> for Tenant {
    async fn from_delivery(delivery: &Delivery<I>, _state: &S) -> Result<Self, Failure> {
        let id = delivery.metadata().correlation_id.clone();
        let id = id.ok_or_else(|| Failure::dead_letter("nobody asks"))?;
        Ok(Self(id))
    }
}

/// Keeps its handler from running beside others.
struct InTransaction;

impl HandlerParam for InTransaction {
    const TRANSACTIONAL: bool = true;
}

impl<I: Inbox, S: Sync> FromDelivery<I, S> for InTransaction {
    async fn from_delivery(_delivery: &Delivery<I>, _state: &S) -> Result<Self, Failure> {
        Ok(Self)
    }
}

fn lost_connection() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

macro_rules! payments_on {
    ($database:ident, $Database:ty, $Connection:ty) => {
        mod $database {
            use super::*;

            #[handler(timeout = "200ms", retry(attempts = 3, backoff = "30ms"))]
            async fn charge(
                event: ChargeAsked,
                tx: &mut $Connection,
                State(calls): State<Calls>,
            ) -> Result<(), Failure> {
                let call = calls.note(&event.charge);
                <$Database>::write(tx, &format!("{} {call}", event.charge)).await?;
                match &*event.charge {
                    "at the third call" if call < 3 => Err(Failure::retry("not yet")),
                    "never" => Err(Failure::retry("never")),
                    "refused" => Err(Failure::dead_letter("refused")),
                    "later" => Err(Failure::retry_after(Duration::from_hours(1), "later")),
                    "hangs" => std::future::pending().await,
                    "lost" => Err(lost_connection().into()),
                    _ => Ok(()),
                }
            }

            #[handler]
            async fn report(
                event: ReportAsked,
                State(calls): State<Calls>,
                Tenant(tenant): Tenant,
                _alone: InTransaction,
                envelope: &Envelope,
            ) {
                let id = &envelope.metadata().event_id;
                calls.note(&format!("{} for {tenant} by {id}", event.name));
                calls.run().await;
            }

            #[handler]
            async fn on_other(
                event: Envelope,
                tx: &mut $Connection,
                meta: &Metadata,
            ) -> Result<(), Failure> {
                assert_eq!(event.metadata(), meta);
                <$Database>::write(tx, &format!("{} {}", meta.event_type, meta.event_id)).await?;
                if event.decode::<RefundAsked>()?.fails {
                    return Err(Failure::retry("no refund"));
                }
                Ok(())
            }

            #[router(events = Payments, handlers(charge, report), fallback(on_other))]
            struct Service;

            async fn open(
                calls: &Calls,
            ) -> (
                Shop<$Database>,
                Consumer<MemoryStream, <$Database as Database>::Inbox>,
            ) {
                let shop = Shop::<$Database>::open().await;
                let service = Service::new(calls.clone());
                let consumer = shop
                    .serving(service)
                    .workers(1)
                    .backoff(in_an_hour())
                    // What is told to a handler is told to it alone.
                    .handler_timeout(Duration::from_mins(10))
                    .unknown_events(UnknownEvents::Ignore);
                (shop, consumer.build().unwrap())
            }

            fn named<E: Event>(event: &E, event_id: &str) -> Envelope {
                Envelope::new(event).unwrap().with_event_id(event_id)
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_failed_call_is_repeated_from_a_clean_savepoint_as_often_as_it_may() {
                let calls = Calls::default();
                let (shop, consumer) = open(&calls).await;
                let charges = [
                    "at the third call",
                    "hangs",
                    "later",
                    "lost",
                    "never",
                    "paid",
                    "refused",
                ];
                let asked = charges.map(|charge| {
                    let event = ChargeAsked {
                        charge: charge.to_owned(),
                    };
                    named(&event, charge)
                });
                shop.stream.send(&asked).await.unwrap();

                let report = consumer.drain().await.unwrap();

                let counts = [3, 1, 1, 1, 3, 1, 1];
                let expected = charges.map(str::to_owned).into_iter().zip(counts);
                assert_eq!(calls.counts(), Vec::from_iter(expected));
                let wait = calls.shortest_wait("at the third call");
                assert!(wait >= Duration::from_millis(30), "{wait:?}");
                assert_eq!(shop.effects().await, ["at the third call 3", "paid 1"]);
                let failed = (report.failed, report.dead_lettered);
                assert_eq!((report.processed, failed), (2, (3, 1)), "{report}");
                assert_eq!((report.handed_back, report.units_lost), (1, 0), "{report}");
                for (event_id, message) in [
                    ("hangs", "timed out after 200ms"),
                    ("later", "later"),
                    ("never", "never"),
                    ("refused", "refused"),
                ] {
                    assert_eq!(shop.column(event_id, "error_message").await, message);
                    assert_eq!(
                        shop.column(event_id, "retry_count").await,
                        "1",
                        "{event_id}"
                    );
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_fallback_handles_what_is_in_no_set() {
                let (shop, consumer) = open(&Calls::default()).await;
                let asked = [
                    named(&RefundAsked { fails: false }, "good"),
                    named(&RefundAsked { fails: true }, "bad"),
                ];
                shop.stream.send(&asked).await.unwrap();

                let report = consumer.drain().await.unwrap();

                assert_eq!((report.processed, report.failed), (1, 1), "{report}");
                assert_eq!((report.stored, report.unknown), (2, 0), "{report}");
                assert_eq!(shop.effects().await, ["RefundAsked good"]);
                assert_eq!(shop.column("bad", "error_message").await, "no refund");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_parameter_of_ones_own_is_taken_from_the_delivery() {
                let calls = Calls::default();
                let (shop, consumer) = open(&calls).await;
                let event = ReportAsked {
                    name: "sales".to_owned(),
                };
                let asked = ["a", "b", "c"].map(|id| named(&event, id).with_correlation_id("acme"));
                shop.stream.send(&asked).await.unwrap();
                shop.stream.send(&[named(&event, "nobody")]).await.unwrap();

                let report = consumer.drain().await.unwrap();

                assert_eq!((report.processed, report.dead_lettered), (3, 1), "{report}");
                let names = ["a", "b", "c"].map(|id| (format!("sales for acme by {id}"), 1));
                assert_eq!(calls.counts(), names);
                let message = shop.column("nobody", "error_message").await;
                assert_eq!(message, "nobody asks");
                // They would run side by side without the parameter that forbids it.
                assert_eq!(calls.most.load(Ordering::SeqCst), 1);
            }
        }
    };
}

payments_on!(postgres, Postgres, PgConnection);
payments_on!(sqlite, Sqlite, SqliteConnection);
