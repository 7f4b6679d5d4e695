//! Leases that are lost while a call waits: what has not begun by then runs at the new owner only.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow::{
    Consumer, Delivery, Failure, Inbox,
    inbox::{Holder, Lease},
};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, GROUP, Script, Shop, names},
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tower::{limit::GlobalConcurrencyLimitLayer, service_fn};

use super::DEADLINE;

on_every_database!(
    a_call_whose_lease_is_lost_while_no_layer_is_ready_does_not_begin,
    a_call_whose_lease_is_lost_before_it_asks_for_the_transaction_does_not_get_it,
    a_call_without_a_transaction_whose_lease_is_lost_does_not_begin,
);

/// Short, so that the consumer asks often which leases are still its own.
const LEASE: Duration = Duration::from_millis(900);

/// More permits than any test takes.
const ENOUGH: usize = 10;

/// A layer that is ready for as many calls as there are permits.
fn limited_by(permits: &Arc<Semaphore>) -> GlobalConcurrencyLimitLayer {
    GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(permits))
}

/// A service whose calls wait twice, with no transaction open: until it is ready, and before they
/// ask for the transaction.
struct Waiting {
    ready: Arc<Semaphore>,
    may_write: Semaphore,
    /// The event ids of the calls that were polled.
    begun: Mutex<Vec<String>>,
    /// The event ids of the calls that have written.
    written: Mutex<Vec<String>>,
}

impl Waiting {
    fn new(ready: usize, may_write: usize) -> Arc<Self> {
        Arc::new(Self {
            ready: Arc::new(Semaphore::new(ready)),
            may_write: Semaphore::new(may_write),
            begun: Mutex::default(),
            written: Mutex::default(),
        })
    }

    async fn call<D: Database>(&self, delivery: Delivery<D::Inbox>) -> Result<(), Failure> {
        let event_id = delivery.metadata().event_id.clone();
        self.begun.lock().unwrap().push(event_id.clone());
        self.may_write.acquire().await.unwrap().forget();
        let mut transaction = delivery.transaction().await?;
        D::write(transaction.connection()?, &event_id).await?;
        transaction.keep();
        self.written.lock().unwrap().push(event_id);
        Ok(())
    }

    fn go_on(&self) {
        self.ready.add_permits(ENOUGH);
        self.may_write.add_permits(ENOUGH);
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    fn written(&self) -> Vec<String> {
        self.written.lock().unwrap().clone()
    }

    /// A consumer with one worker.
    fn start<D: Database>(self: &Arc<Self>, shop: &Shop<D>) -> Running {
        let waiting = Arc::clone(self);
        let service = service_fn(move |delivery| {
            let waiting = Arc::clone(&waiting);
            async move { waiting.call::<D>(delivery).await }
        });
        let consumer = Consumer::builder(shop.stream.clone(), shop.inbox(), service)
            .layer(limited_by(&self.ready))
            .workers(1)
            .lease(LEASE);
        Running::start(consumer.build().unwrap())
    }
}

/// Takes a row over, as the recovery of another process does.
async fn take_over<D: Database>(shop: &Shop<D>, event_id: &str) -> Lease {
    let take = "UPDATE event_inbox SET lock_token = lock_token + 1, locked_by = 'another'";
    shop.database
        .change(format!("{take} WHERE event_id = '{event_id}'"))
        .await;
    let taken = Lease {
        id: shop.column(event_id, "id").await.parse().unwrap(),
        token: 2,
    };
    let another = Holder {
        consumer: GROUP.to_owned(),
        name: "another".to_owned(),
        lease: Duration::from_hours(1),
    };
    let held = shop.inbox().extend(&another, vec![taken]).await.unwrap();
    assert_eq!(held, [taken]);
    taken
}

/// Waits until the process that holds this row has heard which leases are its own, from now on.
async fn leases_are_known<D: Database>(shop: &Shop<D>, event_id: &str) {
    // One extension may be under way already, and the last one's answer.
    for _ in 0..3 {
        let end = shop.column(event_id, "locked_until").await;
        eventually(DEADLINE, async || {
            shop.column(event_id, "locked_until").await != end
        })
        .await;
    }
}

/// A consumer loses the first of its two rows while calls wait, and goes on; then the new owner lets
/// the row run.
async fn the_first_is_taken_over<D: Database>(
    shop: &Shop<D>,
    running: Running,
    [first, second]: [&str; 2],
    go_on: impl FnOnce(),
) {
    let taken = take_over(shop, first).await;
    leases_are_known(shop, second).await;
    go_on();
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let report = running.stop().await;

    assert_eq!((report.processed, report.lease_lost), (1, 1), "{report}");
    assert_eq!((report.failed, report.units_lost), (0, 0), "{report}");
    assert_eq!(shop.event_ids("processing").await, [first]);
    assert_eq!(shop.column(first, "locked_by").await, "another");
    let released = shop.inbox().release(vec![taken], Duration::ZERO).await;
    assert_eq!(released.unwrap(), 1);
    let another = shop.consumer(Script::new()).build().unwrap();
    let report = another.drain().await.unwrap();
    assert_eq!((report.processed, report.recovered), (1, 0), "{report}");
    assert_eq!(shop.column(first, "retry_count").await, "0");
}

/// Two orders, of which the first is lost when so many calls have begun.
async fn an_order_is_taken_over<D: Database>(waiting: &Arc<Waiting>, begun: usize) {
    let shop = Shop::<D>::open().await;
    shop.orders(0..2).await;
    let running = waiting.start(&shop);
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == names(0..2) && waiting.begun().len() == begun
    })
    .await;

    let orders = ["order-0", "order-1"];
    the_first_is_taken_over(&shop, running, orders, || waiting.go_on()).await;

    assert_eq!(shop.effects().await, names(0..2));
}

async fn a_call_whose_lease_is_lost_while_no_layer_is_ready_does_not_begin<D: Database>() {
    let waiting = Waiting::new(0, ENOUGH);

    an_order_is_taken_over::<D>(&waiting, 0).await;

    assert_eq!(waiting.begun(), ["order-1"]);
    assert_eq!(waiting.written(), ["order-1"]);
}

async fn a_call_whose_lease_is_lost_before_it_asks_for_the_transaction_does_not_get_it<
    D: Database,
>() {
    let waiting = Waiting::new(ENOUGH, 0);

    an_order_is_taken_over::<D>(&waiting, 1).await;

    assert_eq!(waiting.begun(), ["order-0", "order-1"]);
    assert_eq!(waiting.written(), ["order-1"]);
}

async fn a_call_without_a_transaction_whose_lease_is_lost_does_not_begin<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (ready, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::default()));
    let script = Script::new().on_parcel({
        let begun: Arc<Mutex<Vec<_>>> = Arc::clone(&begun);
        move |parcel| {
            begun.lock().unwrap().push(parcel.meta.event_id);
            std::future::ready(Ok(())).boxed()
        }
    });
    shop.parcels(0..2).await;
    let parcels = ["parcel-0", "parcel-1"];
    let consumer = shop.consumer(script).layer(limited_by(&ready)).lease(LEASE);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || {
        shop.event_ids("processing").await == parcels
    })
    .await;

    the_first_is_taken_over(&shop, running, parcels, || ready.add_permits(ENOUGH)).await;

    assert_eq!(*begun.lock().unwrap(), ["parcel-1"]);
}
