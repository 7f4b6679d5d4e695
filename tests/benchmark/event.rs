//! The event of every workload, and how it gets into a stream.

use deadpool_redis::redis::{self, Cmd, aio::MultiplexedConnection};
use eventflow::{
    Envelope,
    envelope::wire::{self, Limits},
    prelude::*,
};

use crate::Result;

pub(crate) const STREAM: &str = "orders";
pub(crate) const GROUP: &str = "billing";

/// How many aggregates the events are about, at random, the same in each run: some come again while their
/// last event is on the way.
const AGGREGATES: u128 = 1_000;

/// How many entries are sent to Redis at once.
const AT_ONCE: u32 = 1_000;

/// Published by the shop when a customer checks out.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub(crate) struct OrderCreated {
    #[event(aggregate_id)]
    pub(crate) order_id: Uuid,
    /// Counts from 0.
    pub(crate) number: u32,
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

impl OrderCreated {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            order_id: Uuid::now_v7(),
            number,
            sku: "blue-suede-shoes-43".to_owned(),
            quantity: 1 + number % 7,
        }
    }

    pub(crate) fn envelope(&self) -> Result<Envelope> {
        let seed = u64::from(self.number);
        let aggregate = fastrand::Rng::with_seed(seed).u128(..AGGREGATES);
        let aggregate = Uuid::from_u128(aggregate);
        Ok(Envelope::new(self)?.with_aggregate_id(aggregate))
    }
}

/// What the stream carries.
#[derive(Debug, EventSet)]
pub(crate) enum OrderEvents {
    /// The only one.
    Created(OrderCreated),
}

/// The command that publishes an event.
pub(crate) fn add(number: u32) -> Result<Cmd> {
    let fields = wire::write(&OrderCreated::new(number).envelope()?, Limits::default())?;
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    Ok(command)
}

/// Publishes events numbered from 0.
pub(crate) async fn publish(redis: &mut MultiplexedConnection, events: u32) -> Result<()> {
    let mut number = 0;
    while number < events {
        let end = events.min(number + AT_ONCE);
        let mut pipeline = redis::pipe();
        for number in number..end {
            pipeline.add_command(add(number)?).ignore();
        }
        pipeline.query_async::<()>(redis).await?;
        number = end;
    }
    Ok(())
}

/// Fills a stream in memory with events numbered from 0.
pub(crate) async fn fill(stream: &MemoryStream, events: u32) -> Result<()> {
    for number in 0..events {
        stream.publish(&OrderCreated::new(number)).await?;
    }
    Ok(())
}
