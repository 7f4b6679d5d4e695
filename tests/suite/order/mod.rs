//! Order per aggregate: consumers that keep it.

mod beginning;
mod cost;
mod drains;
mod policies;
mod races;
mod readers;
mod redis;
mod shards;
mod unanswered;
mod useless;
mod waiting;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow::{
    Envelope, Failure, Sink as _,
    inbox::{
        Admission, Arrival, Holder, Lease, Order, OrderPolicy, OrderedInbox as _, Settlement,
        Status,
    },
};
use eventflow_tests::{
    shop::{Builder, Database, GROUP, OrderPlaced, Script, Shop},
    worker::InboxAt,
};
use futures_util::FutureExt;
use uuid::Uuid;

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_mins(1);

/// As often as a lease lasts, turns are looked for that nobody has passed on: beyond any test's deadline, so
/// that one which was lost is found out.
const NO_SECOND_LOOK: Duration = Duration::from_mins(10);

/// The event with this number of an aggregate; its event id is `<aggregate>/<number>`.
fn event(aggregate: u32, number: u32) -> Envelope {
    let event = OrderPlaced {
        order_id: Uuid::from_u128(u128::from(aggregate) + 1),
        number,
    };
    let envelope = Envelope::new(&event).unwrap();
    envelope.with_event_id(format!("{aggregate:03}/{number:03}"))
}

/// A shop whose table of effects tells in which order they were written.
async fn open<D: Database>() -> Shop<D> {
    let shop = Shop::<D>::open().await;
    if matches!(shop.database.at(), InboxAt::Postgres(_)) {
        shop.database
            .change("ALTER TABLE effects ADD COLUMN rowid BIGSERIAL")
            .await;
    }
    shop
}

async fn publish<D: Database>(shop: &Shop<D>, events: impl IntoIterator<Item = (u32, u32)>) {
    let events = events.into_iter();
    let envelopes: Vec<_> = events
        .map(|(aggregate, number)| event(aggregate, number))
        .collect();
    shop.stream.send(&envelopes).await.unwrap();
}

/// The numbers of the events of each aggregate, in the order in which they were handled.
async fn handled<D: Database>(shop: &Shop<D>) -> BTreeMap<u32, Vec<u32>> {
    let names = shop
        .database
        .texts("SELECT name FROM effects ORDER BY rowid")
        .await;
    let mut handled: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for name in names {
        let (aggregate, number) = name.split_once('/').unwrap();
        let numbers = handled.entry(aggregate.parse().unwrap()).or_default();
        numbers.push(number.parse().unwrap());
    }
    handled
}

/// Aggregates with so many events each, as [`handled`] tells them.
fn all_of(aggregates: u32, events: u32) -> BTreeMap<u32, Vec<u32>> {
    (0..aggregates)
        .map(|aggregate| (aggregate, (0..events).collect()))
        .collect()
}

/// Sees two events of an aggregate that run at once, whichever consumer of this process runs them.
#[derive(Debug, Clone, Default)]
struct Overlaps {
    running: Arc<Mutex<HashSet<Uuid>>>,
    seen: Arc<Mutex<Vec<Uuid>>>,
}

struct Run(Overlaps, Uuid);

impl Overlaps {
    fn begin(&self, aggregate: Uuid) -> Run {
        if !self.running.lock().unwrap().insert(aggregate) {
            self.seen.lock().unwrap().push(aggregate);
        }
        Run(self.clone(), aggregate)
    }

    fn seen(&self) -> Vec<Uuid> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.running.lock().unwrap().remove(&self.1);
    }
}

/// Handlers that write their effect, take a moment, and fail in one of four first runs.
fn at_times_failing<D: Database>(overlaps: &Overlaps) -> Script<D> {
    let overlaps = overlaps.clone();
    Script::new().on_order(move |mut call| {
        let run = overlaps.begin(call.event.order_id);
        async move {
            let _run = run;
            call.write().await?;
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2_000))).await;
            if call.meta.attempt == 1 && fastrand::u8(0..4) == 0 {
                return Err(Failure::retry("not yet"));
            }
            Ok(())
        }
        .boxed()
    })
}

/// Handlers that refuse the events whose ids these are, while the switch is on.
fn refusing<D: Database>(event_ids: &'static [&'static str], switch: &Switch) -> Script<D> {
    let switch = switch.clone();
    Script::new().on_order(move |mut call| {
        let refuses = switch.is_on() && event_ids.contains(&&*call.meta.event_id);
        async move {
            call.write().await?;
            if refuses {
                return Err(Failure::dead_letter("out of stock"));
            }
            Ok(())
        }
        .boxed()
    })
}

#[derive(Debug, Clone)]
struct Switch(Arc<Mutex<bool>>);

impl Switch {
    fn on() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    fn is_on(&self) -> bool {
        *self.0.lock().unwrap()
    }

    fn turn_off(&self) {
        *self.0.lock().unwrap() = false;
    }
}

/// An ordered consumer that reads under its own name.
fn consumer<D: Database>(shop: &Shop<D>, name: &str, script: Script<D>) -> Builder<D> {
    let stream = shop.stream.clone().consumer(name);
    shop.consumer_of(stream, script).ordered()
}

async fn drain<D: Database>(builder: Builder<D>) -> eventflow::Report {
    builder.build().unwrap().drain().await.unwrap()
}

/// The inbox as an ordered consumer has it.
fn in_order<D: Database>(shop: &Shop<D>) -> D::Inbox {
    shop.inbox().in_order(Order {
        policy: OrderPolicy::Block,
        passed: Arc::default(),
    })
}

fn arrival(aggregate: u32, number: u32) -> Arrival {
    Arrival {
        id: Uuid::now_v7(),
        envelope: event(aggregate, number),
        raw: None,
        admission: Admission::Wait,
        max_retries: 3,
    }
}

fn processed(lease: Lease) -> Settlement {
    Settlement {
        lease,
        status: Status::Processed,
        retry_count: 0,
        delay: Duration::ZERO,
        error_message: None,
    }
}

fn another() -> Holder {
    Holder {
        consumer: GROUP.to_owned(),
        name: "another".to_owned(),
        lease: Duration::from_mins(5),
    }
}
