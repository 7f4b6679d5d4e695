//! A batch of entries as the columns that an insert takes.

use std::hint::black_box;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::redis::Entry;
use crate::{Result, event::OrderCreated};

/// The field `data` of an entry, whose texts stay where they were read to.
#[derive(Debug, Deserialize)]
pub(super) struct Arrival<'e> {
    pub(super) event_id: &'e str,
    pub(super) event_type: &'e str,
    pub(super) aggregate_id: Uuid,
    pub(super) occurred_on: DateTime<Utc>,
    #[serde(borrow)]
    pub(super) payload: &'e RawValue,
}

/// One list per column.
#[derive(Debug, Default)]
pub(super) struct Arrivals<'e> {
    pub(super) ids: Vec<Uuid>,
    pub(super) event_ids: Vec<&'e str>,
    pub(super) stream_ids: Vec<&'e str>,
    pub(super) event_types: Vec<&'e str>,
    pub(super) aggregate_ids: Vec<Uuid>,
    pub(super) occurred_on: Vec<DateTime<Utc>>,
    pub(super) payloads: Vec<&'e str>,
}

impl<'e> Arrivals<'e> {
    pub(super) fn read(entries: &'e [Entry]) -> Result<Self> {
        let mut arrivals = Self::default();
        for entry in entries {
            let arrival: Arrival<'e> = serde_json::from_slice(&entry.data)?;
            arrivals.ids.push(Uuid::now_v7());
            arrivals.event_ids.push(arrival.event_id);
            arrivals.stream_ids.push(&entry.id);
            arrivals.event_types.push(arrival.event_type);
            arrivals.aggregate_ids.push(arrival.aggregate_id);
            arrivals.occurred_on.push(arrival.occurred_on);
            arrivals.payloads.push(arrival.payload.get());
        }
        Ok(arrivals)
    }

    /// The typed events, in the order of the batch.
    pub(super) fn decode(&self) -> impl Iterator<Item = Result<OrderCreated>> {
        let payloads = self.payloads.iter();
        payloads.map(|payload| Ok(serde_json::from_str(payload)?))
    }

    /// What the handler does that does nothing.
    pub(super) fn decode_all(&self) -> Result<()> {
        for event in self.decode() {
            black_box(event?);
        }
        Ok(())
    }
}
