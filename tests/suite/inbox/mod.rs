//! Inboxes: one conformance suite on every database, and what only one of them can do.

pub(crate) mod adoption;
mod batches;
mod connections;
mod costs;
mod fixture;
mod isolation;
mod live_adoption;
mod locks;
mod migrations;
mod model;
mod names;
mod nodes;
mod order;
mod payloads;
mod plans;
mod rows;
mod schedule;
mod units;

use std::time::Duration;

use eventflow::{
    Envelope,
    inbox::{Admission, Arrival, Holder, Inbox, Lease, Settlement, Status},
    prelude::*,
};

use self::fixture::{Fixture, on_each_database};

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

const CONSUMER: &str = "billing";

#[derive(Serialize, Deserialize, Event)]
struct OrderPaid {}

fn holder(name: &str) -> Holder {
    Holder {
        consumer: CONSUMER.to_owned(),
        name: name.to_owned(),
        lease: Duration::from_mins(1),
    }
}

/// A holder whose leases have lapsed when it gets them.
fn dying(name: &str) -> Holder {
    Holder {
        lease: Duration::ZERO,
        ..holder(name)
    }
}

fn arrival(event_id: &str) -> Arrival {
    let envelope = Envelope::new(&OrderPaid {}).unwrap();
    arrival_of(envelope.with_event_id(event_id))
}

fn arrival_of(envelope: Envelope) -> Arrival {
    Arrival {
        id: Uuid::now_v7(),
        envelope,
        raw: None,
        admission: Admission::Run,
        max_retries: 3,
    }
}

fn settlement(lease: Lease, status: Status) -> Settlement {
    Settlement {
        lease,
        status,
        retry_count: i32::from(status == Status::Failed),
        delay: Duration::ZERO,
        error_message: (status != Status::Processed).then(|| "out of stock".to_owned()),
    }
}

async fn insert(inbox: &impl Inbox, holder: &Holder, ids: &[&str]) -> Vec<Lease> {
    let arrivals = ids.iter().map(|id| arrival(id)).collect();
    let insertion = inbox.insert(holder, arrivals).await.unwrap();
    insertion.rows.iter().map(|row| row.lease).collect()
}

/// Settles rows in a unit of its own; answers the claims that held. One that did not loses the unit: the
/// others are settled without one then.
async fn settle(inbox: &impl Inbox, settlements: &[Settlement]) -> Vec<Lease> {
    use eventflow::inbox::Unit as _;

    let mut unit = inbox.begin().await.unwrap();
    let mut held = unit.settle(&holder("a"), settlements).await.unwrap();
    if held.len() == settlements.len() {
        unit.commit().await.unwrap();
        return held;
    }
    drop(unit);
    let mut alone = inbox.settle(&holder("a"), settlements).await.unwrap();
    let by_row = |lease: &Lease| (lease.id, lease.token);
    alone.sort_by_key(by_row);
    held.sort_by_key(by_row);
    assert_eq!(alone, held, "in a unit, and without one");
    held
}
