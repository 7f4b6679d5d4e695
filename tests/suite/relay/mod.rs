//! The outbox's relay: one conformance suite of its table on every database, and what it does with
//! real brokers, beside others and when it is killed.

mod broker;
mod delayed;
mod fixture;
mod killed;
mod leases;
mod names;
mod outages;
mod plans;
mod publishing;
mod refusals;
mod table;
mod waiting;
mod waking;

use std::time::Duration;

use eventflow::{
    outbox::{RelayBuilder, RelayHandle, RelayHealth, RelayReport},
    prelude::*,
};
use tokio::{sync::oneshot, task::JoinHandle};

use self::{broker::Broker, fixture::on_each_database};

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than any test lasts: what happens before is not by polling.
const NEVER: Duration = Duration::from_mins(10);

#[derive(Serialize, Deserialize, Event)]
struct OrderPaid {
    #[event(aggregate_id)]
    order_id: Uuid,
    number: u64,
}

/// An event of this id, of an aggregate of its own.
fn event(event_id: &str) -> Envelope {
    numbered(Uuid::now_v7(), 0).with_event_id(event_id)
}

fn numbered(order_id: Uuid, number: u64) -> Envelope {
    Envelope::new(&OrderPaid { order_id, number }).unwrap()
}

fn events(ids: &[&str]) -> Vec<Envelope> {
    ids.iter().map(|id| event(id)).collect()
}

/// Publishes what is due.
async fn drain<T: OutboxTable, K: Sink + 'static>(outbox: &T, sink: K) -> RelayReport {
    let relay = Relay::builder(outbox.clone(), sink).build().unwrap();
    relay.drain().await.unwrap()
}

/// A relay that runs until a test stops it.
struct Running {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<eventflow::Result<RelayReport>>,
}

impl Running {
    fn start<T: OutboxTable, K: Sink + 'static>(builder: RelayBuilder<T, K>) -> Self {
        let relay = builder.build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let handle = relay.handle();
        let task = tokio::spawn(relay.run_until(stopped));
        Self { handle, stop, task }
    }

    fn health(&self) -> RelayHealth {
        self.handle.health()
    }

    fn report(&self) -> RelayReport {
        self.handle.report()
    }

    async fn stop(self) -> RelayReport {
        self.stop.send(()).expect("the relay ended by itself");
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("the relay did not stop")
            .expect("the relay panicked")
            .expect("the relay failed")
    }
}
