//! The leases that this process holds: of rows that wait in it and rows that run.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::inbox::{Lease, Row};

/// How long past its deadline a running row is still held: then something blocks its thread.
const STUCK_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct Entry {
    token: i64,
    /// When a running row is beyond all deadlines; `None` while it waits.
    stuck_at: Option<Instant>,
}

/// The leases to extend. A row that is not in here any more is not to be run.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: Mutex<HashMap<Uuid, Entry>>,
}

impl Held {
    pub(super) fn add(&self, rows: &[Row]) {
        let mut leases = self.lock();
        for Row { lease, .. } in rows {
            let entry = Entry {
                token: lease.token,
                stuck_at: None,
            };
            leases.insert(lease.id, entry);
        }
    }

    /// Notes that the row runs now, for at most `deadline`; `false` if its lease is lost.
    pub(super) fn start(&self, lease: Lease, deadline: Duration) -> bool {
        match self.lock().get_mut(&lease.id) {
            Some(entry) if entry.token == lease.token => {
                entry.stuck_at = Some(Instant::now() + deadline + STUCK_AFTER);
                true
            }
            _ => false,
        }
    }

    /// Notes that the row's call has ended; it waits for its settlement.
    pub(super) fn end(&self, lease: Lease) {
        if let Some(entry) = self.lock().get_mut(&lease.id)
            && entry.token == lease.token
        {
            entry.stuck_at = None;
        }
    }

    pub(super) fn remove(&self, leases: impl IntoIterator<Item = Lease>) {
        let mut held = self.lock();
        for lease in leases {
            if held
                .get(&lease.id)
                .is_some_and(|entry| entry.token == lease.token)
            {
                held.remove(&lease.id);
            }
        }
    }

    /// The leases to extend: all but those of calls that never yield, whose rows are to lapse.
    pub(super) fn to_extend(&self) -> Vec<Lease> {
        let now = Instant::now();
        self.lock()
            .iter()
            .filter(|(_, entry)| entry.stuck_at.is_none_or(|stuck_at| now < stuck_at))
            .map(|(id, entry)| Lease {
                id: *id,
                token: entry.token,
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
