//! What is said of rows: of those on their way in, of those that a process owns, of those that are kept.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::envelope::{Envelope, Metadata, Payload};

/// The state of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Waits for its first run.
    Pending,
    /// Owned by a lease: waits in a worker, or runs.
    Processing,
    /// Done; its handler's writes were committed with this state.
    Processed,
    /// Failed, and waits for its next run.
    Failed,
    /// Kept: no further run unless it is requeued.
    DeadLetter,
}

impl Status {
    /// The word in the table, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::DeadLetter => "dead_letter",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most arrivals that are stored at once, so that each of them has a place of its own.
pub(crate) const LARGEST_BATCH: u16 = 10_000;

/// An event on its way into the table.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The id of its row. Stays the same when the insert has to be tried again, so that a row whose
    /// insert was not answered is known again.
    pub id: Uuid,
    /// The event.
    pub envelope: Envelope,
    /// The bytes that are kept beside the payload: those of an entry that could not be read, or a
    /// payload that the column does not take, which then is `{}`.
    pub raw: Option<Vec<u8>>,
    /// What is to become of it.
    pub admission: Admission,
    /// Scheduled runs in all; 0 or less is for ever.
    pub max_retries: i32,
}

impl Arrival {
    /// Keeps the payload beside its column, which does not take it.
    pub(crate) fn with_payload_as_bytes(self) -> Self {
        let payload = self.envelope.payload().as_str().as_bytes();
        Self {
            raw: Some(payload.to_vec()),
            envelope: self.envelope.with_payload(Payload::empty()),
            ..self
        }
    }
}

/// The state in which an arrival enters the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// `processing`, leased to the inserting holder.
    Run,
    /// `pending`, due at once: for whichever worker has room first.
    Wait,
    /// `pending` with no next run, until a consumer that knows the type releases it.
    Park,
    /// `dead_letter` with this reason.
    DeadLetter(String),
}

/// Who takes leases, and for how long.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The service that owns the rows: column `consumer`.
    pub consumer: String,
    /// The process: column `locked_by`. At most 255 characters.
    pub name: String,
    /// How long a lease lasts unless it is extended.
    pub lease: Duration,
}

/// A claim on a row: valid until it lapses and another claim moves the token on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The row.
    pub id: Uuid,
    /// The fencing token of this claim.
    pub token: i64,
}

impl Lease {
    /// The claim with which a row enters the table.
    pub(crate) const fn first(id: Uuid) -> Self {
        Self { id, token: 1 }
    }
}

/// A row that this process owns.
#[derive(Debug, Clone)]
pub struct Row {
    /// The claim.
    pub lease: Lease,
    /// The event; its metadata's `attempt` is `retry_count + 1`.
    pub envelope: Envelope,
    /// Failed runs so far.
    pub retry_count: i32,
    /// Scheduled runs in all; 0 or less is for ever.
    pub max_retries: i32,
    /// How long before its time it was claimed; zero unless [`Due::Later`] was asked for.
    pub due_in: Duration,
}

/// What became of a batch of arrivals.
#[derive(Debug, Default)]
pub struct Insertion {
    /// The rows that entered for a run, in the order of the batch.
    pub rows: Vec<Row>,
    /// The ids of arrivals that did not enter, since their event was in the table already.
    pub duplicates: Vec<Uuid>,
}

/// Which waiting rows a claim takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those whose time has come.
    Now,
    /// Also those scheduled for later; not those parked for a later deploy.
    Later,
}

/// What the recovery of one lapsed row came to.
#[derive(Debug)]
pub enum Recovery {
    /// No row has lapsed.
    None,
    /// The row is this process's, to run alone.
    Run(Box<Row>),
    /// The row lapsed as often as it may; it is a dead letter now (`crash_loop`).
    DeadLetter(Box<Metadata>),
}

/// The next state of an owned row.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The claim; a row whose token moved on is left alone.
    pub lease: Lease,
    /// The next state: `Processed`, `Failed`, `DeadLetter`, `Pending` to park it, or `Processing` for a
    /// row that its unit has inserted and that is to run later, leased to the holder.
    pub status: Status,
    /// Failed runs so far, this one included.
    pub retry_count: i32,
    /// When a failed row runs next, from now.
    pub delay: Duration,
    /// Why it failed.
    pub error_message: Option<String>,
}

/// Rows by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Wait for their first run.
    pub pending: u64,
    /// Are owned by a lease.
    pub processing: u64,
    /// Are done.
    pub processed: u64,
    /// Wait for their next run.
    pub failed: u64,
    /// Are kept.
    pub dead_letter: u64,
}

/// A row that is kept because no run helped, or because it could not be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The row.
    pub id: Uuid,
    /// The event.
    pub envelope: Envelope,
    /// Failed runs.
    pub retry_count: i32,
    /// Why.
    pub error_message: String,
    /// When it failed last; for an entry that could not be read, when it arrived.
    pub last_error_at: DateTime<Utc>,
    /// The bytes that could not be read; of an entry of more than 16 MiB, the first 64 KiB.
    pub raw: Option<Vec<u8>>,
}

/// How long finished rows are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Processed rows. Also how long a duplicate is recognised.
    pub processed: Duration,
    /// Dead letters.
    pub dead_letter: Duration,
}

/// What a consumer asks of its inbox.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Its name: the service that owns its rows.
    pub consumer: &'a str,
    /// Connections that may be in use at once.
    pub connections: u32,
    /// The longest time for which a handler may hold a transaction.
    pub longest_handler: Duration,
}
