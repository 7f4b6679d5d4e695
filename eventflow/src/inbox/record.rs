//! A row as both databases give it, and how it becomes an event again.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::{
    database::{columns::traceparent_in, numbers::Numbers},
    envelope::{Envelope, Metadata, Payload, wire::MALFORMED},
    inbox::{Admission, Arrival, Counts, DeadLetter, Insertion, Lease, Recovery, Row, Status},
};

/// The rows of an insert that have entered.
#[derive(Debug)]
pub(crate) enum Entered {
    All,
    Only(Ids),
}

/// The ids of rows.
pub(crate) type Ids = HashSet<Uuid, RandomState>;

impl Entered {
    /// Those of so many rows.
    #[cfg(feature = "sqlite")]
    pub(crate) fn of(ids: Ids, rows: usize) -> Self {
        if ids.len() == rows {
            Self::All
        } else {
            Self::Only(ids)
        }
    }

    pub(crate) fn has(&self, id: &Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

/// Sorts the arrivals of an insert by whether they entered, in their order.
pub(crate) fn insertion(arrivals: Vec<Arrival>, entered: &Entered) -> Insertion {
    let mut insertion = Insertion::default();
    for arrival in arrivals {
        let Arrival { id, admission, .. } = arrival;
        if !entered.has(&id) {
            insertion.duplicates.push(id);
        } else if admission == Admission::Run {
            // What the column refused is decoded from the bytes beside it.
            let as_bytes = arrival.raw.and_then(|raw| String::from_utf8(raw).ok());
            let envelope = match as_bytes {
                Some(payload) => arrival
                    .envelope
                    .with_payload(Payload::from_checked(payload)),
                None => arrival.envelope,
            };
            insertion.rows.push(Row {
                lease: Lease::first(id),
                envelope,
                retry_count: 0,
                max_retries: arrival.max_retries,
                due_in: Duration::ZERO,
            });
        }
    }
    insertion
}

/// Reads what the recovery of at most one row answered.
pub(crate) fn recovery(recovered: Option<(String, Record)>) -> Recovery {
    match recovered {
        None => Recovery::None,
        Some((status, record)) if status == Status::DeadLetter.as_str() => {
            Recovery::DeadLetter(Box::new(record.into_metadata()))
        }
        Some((_, record)) => Recovery::Run(Box::new(record.into_row())),
    }
}

/// Puts claimed rows in order: each with when it is due, on the database's clock, and how long until
/// then.
pub(crate) fn claimed<T: Ord>(mut claimed: Vec<(T, Duration, Record)>) -> Vec<Row> {
    claimed.sort_by(|(due, _, record), (other_due, _, other)| {
        (due, record.id).cmp(&(other_due, other.id))
    });
    let rows = claimed.into_iter().map(|(_, due_in, record)| Row {
        due_in,
        ..record.into_row()
    });
    rows.collect()
}

/// Reads the row of counts.
pub(crate) fn counts(row: &impl Numbers) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        pending: row.count(0)?,
        processing: row.count(1)?,
        processed: row.count(2)?,
        failed: row.count(3)?,
        dead_letter: row.count(4)?,
    })
}

/// The columns that make an event and its claim.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: Uuid,
    pub(crate) token: i64,
    pub(crate) event_id: String,
    pub(crate) stream_id: String,
    pub(crate) event_type: String,
    pub(crate) aggregate_id: Uuid,
    pub(crate) correlation_id: Option<String>,
    pub(crate) causation_id: Option<String>,
    pub(crate) occurred_on: DateTime<Utc>,
    pub(crate) payload: String,
    pub(crate) headers: Option<String>,
    pub(crate) raw: Option<Vec<u8>>,
    pub(crate) retry_count: i32,
    pub(crate) max_retries: i32,
}

impl Record {
    /// The row, for the one who claimed it.
    pub(crate) fn into_row(self) -> Row {
        let lease = Lease {
            id: self.id,
            token: self.token,
        };
        let (retry_count, max_retries) = (self.retry_count, self.max_retries);
        let (envelope, _) = self.into_envelope();
        Row {
            lease,
            envelope,
            retry_count,
            max_retries,
            due_in: Duration::ZERO,
        }
    }

    /// The row, for those who look at what is kept.
    pub(crate) fn into_dead_letter(
        self,
        error_message: Option<String>,
        last_error_at: DateTime<Utc>,
    ) -> DeadLetter {
        let (id, retry_count) = (self.id, self.retry_count);
        let (envelope, raw) = self.into_envelope();
        DeadLetter {
            id,
            envelope,
            retry_count,
            error_message: error_message.unwrap_or_default(),
            last_error_at,
            raw,
        }
    }

    /// The metadata alone.
    pub(crate) fn into_metadata(self) -> Metadata {
        self.into_envelope().0.metadata().clone()
    }

    /// The event, and the bytes that are not its payload.
    fn into_envelope(self) -> (Envelope, Option<Vec<u8>>) {
        // An event that could be read has bytes only if the column refused its payload: then they
        // are the payload, and what the column holds stands in for it.
        let (payload, raw) = match self.raw {
            Some(raw) if !self.event_id.starts_with(MALFORMED) => match String::from_utf8(raw) {
                Ok(payload) => (payload, None),
                Err(error) => (self.payload, Some(error.into_bytes())),
            },
            raw => (self.payload, raw),
        };
        let metadata = Metadata {
            event_id: self.event_id,
            event_type: self.event_type,
            aggregate_id: self.aggregate_id,
            occurred_on: self.occurred_on,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            traceparent: traceparent_in(self.headers.as_deref()),
            stream_id: Some(self.stream_id).filter(|id| !id.is_empty()),
            attempt: u32::try_from(self.retry_count)
                .unwrap_or(0)
                .saturating_add(1),
        };
        (
            Envelope::from_parts(metadata, Payload::from_checked(payload)),
            raw,
        )
    }
}
