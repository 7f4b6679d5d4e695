//! H4 and H5: a handler that cannot be stopped, or answers when the row is another worker's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Delivery, Failure};
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Database, OnPostgres, Postgres, Script, Shop, Sqlite, names},
};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tower::service_fn;

use super::DEADLINE;

on_every_database!(h5_a_lapsed_owners_late_answer_is_refused);

// Inline there is no lease that could lapse before the commit.
owned_at_birth_on_postgres!(h5_a_lapsed_owners_late_commit_is_rolled_back,);

/// A thread that a handler blocks in its first run, and that a test lets go on.
#[derive(Clone, Default)]
struct Blocked {
    runs: Arc<AtomicU32>,
    entered: Arc<Notify>,
    open: Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
}

impl Blocked {
    fn is_first_run(&self) -> bool {
        self.runs.fetch_add(1, Ordering::SeqCst) == 0
    }

    fn block(&self) {
        self.entered.notify_one();
        let (open, changed) = &*self.open;
        let open = open.lock().unwrap();
        drop(changed.wait_while(open, |open| !*open).unwrap());
    }

    fn let_go(&self) {
        let (open, changed) = &*self.open;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
}

/// Lets the thread go on also if the test fails: its runtime waits for it.
struct LetsGo<'b>(&'b Blocked);

impl Drop for LetsGo<'_> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// A consumer whose handler writes and then blocks its thread the first time, with a short lease:
/// so long after its timeout it is found to be stuck.
fn blocking<D: Database>(shop: &Shop<D>, blocked: &Blocked) -> Running {
    let blocked = blocked.clone();
    let service = service_fn(move |delivery: Delivery<D::Inbox>| {
        let blocked = blocked.clone();
        async move {
            let event_id = delivery.metadata().event_id.clone();
            let mut transaction = delivery.transaction().await?;
            if blocked.is_first_run() {
                D::write(transaction.connection()?, "of the blocked one").await?;
                blocked.block();
            } else {
                D::write(transaction.connection()?, &event_id).await?;
            }
            transaction.keep();
            Ok::<(), Failure>(())
        }
    });
    let consumer = shop
        .serving(service)
        .handler_timeout(Duration::from_millis(100))
        .poll_interval(Duration::from_mins(5))
        .lease(Duration::from_millis(600));
    Running::start(consumer.build().unwrap())
}

/// The lease lapses, another worker takes the event, of this process or of another, and the late
/// commit is refused by its token.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h4_a_handler_that_never_yields_loses_its_event_to_another_worker() {
    let shop = Shop::<Postgres>::open().await;
    let blocked = Blocked::default();
    let _lets_go = LetsGo(&blocked);
    shop.orders(0..1).await;
    let stuck = blocking(&shop, &blocked);
    blocked.entered.notified().await;

    let other = Running::start(shop.consumer(Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    assert_eq!(shop.effects().await, names(0..1));
    let shown = stuck.health().stuck;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0].event_id, "order-0");
    assert!(other.health().stuck.is_empty());
    blocked.let_go();
    let stuck = stuck.stop().await;
    let other = other.stop().await;

    assert_eq!(stuck.recovered + other.recovered, 1, "{stuck}\n{other}");
    assert_eq!(stuck.processed + other.processed, 1, "{stuck}\n{other}");
    assert_eq!(stuck.lease_lost, 1, "{stuck}");
    assert_eq!(shop.effects().await, names(0..1));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}

/// There the blocked handler holds the one writer: its lease lapses as well, but nobody can take
/// the event over, nor write at all, until it lets go; then it commits what is still its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h4_a_handler_that_never_yields_keeps_its_event_on_sqlite() {
    let shop = Shop::<Sqlite>::open().await;
    let blocked = Blocked::default();
    let _lets_go = LetsGo(&blocked);
    shop.orders(0..1).await;
    let stuck = blocking(&shop, &blocked);
    blocked.entered.notified().await;

    let other = Running::start(shop.consumer(Script::new()).build().unwrap());
    let lapsed = "SELECT event_id FROM event_inbox
        WHERE status = 'processing' AND locked_until < unixepoch('subsec') * 1000000";
    eventually(DEADLINE, async || {
        shop.database.texts(lapsed).await == ["order-0"]
    })
    .await;
    assert!(shop.effects().await.is_empty());
    blocked.let_go();
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let stuck = stuck.stop().await;
    let other = other.stop().await;

    assert_eq!((stuck.lease_lost, stuck.processed), (0, 1), "{stuck}");
    assert_eq!((other.recovered, other.processed), (0, 0), "{other}");
    assert_eq!(shop.effects().await, ["of the blocked one"]);
}

/// What a claim of another worker does to the row.
const TAKEN_OVER: &str =
    "UPDATE event_inbox SET lock_token = lock_token + 1, locked_by = 'another'";

/// A parcel's handler holds no transaction, so on SQLite others can write while it runs.
async fn h5_a_lapsed_owners_late_answer_is_refused<D: Database>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::new().parcels_wait_at(&gate);
    shop.parcels(0..1).await;
    let running = Running::start(shop.consumer(script).build().unwrap());
    gate.entered().await;
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == ["parcel-0"]
    })
    .await;

    shop.database.change(TAKEN_OVER).await;
    gate.let_one_pass();
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;

    assert_eq!((report.processed, report.lease_lost), (0, 1), "{report}");
    assert_eq!(shop.column("parcel-0", "status").await, "processing");
    assert_eq!(shop.column("parcel-0", "locked_by").await, "another");
}

async fn h5_a_lapsed_owners_late_commit_is_rolled_back<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    let gate = Gate::new();
    let script = Script::new().on_order({
        let gate = gate.clone();
        move |mut call| {
            let gate = gate.clone();
            async move {
                call.write().await?;
                if call.event.number == 0 {
                    gate.pass().await;
                }
                Ok(())
            }
            .boxed()
        }
    });
    shop.orders(0..3).await;
    let consumer = shop.consumer(script).workers(1);
    let running = Running::start(consumer.build().unwrap());
    gate.entered().await;

    let of_the_first = format!("{TAKEN_OVER} WHERE event_id = 'order-0'");
    shop.database.change(of_the_first).await;
    gate.let_one_pass();
    // The others of its unit are rolled back with it, and run again by themselves.
    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;
    let report = running.stop().await;

    assert_eq!((report.processed, report.lease_lost), (2, 1), "{report}");
    assert_eq!(report.unconfirmed, 0, "{report}");
    assert_eq!(shop.effects().await, names([1, 2]));
    assert_eq!(shop.column("order-0", "locked_by").await, "another");
}
