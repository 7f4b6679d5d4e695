//! The leases that this process holds: of rows that wait in it and rows that run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use tokio::task;

use crate::inbox::{Lease, Row};

/// Asked several times for each event, by ids and tokens that nobody outside chooses.
type Leases = HashMap<Lease, Holding, RandomState>;

/// The leases to extend, each with the task that runs its row once there is one. A row that is not
/// in here any more is not to be run.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Holding {
    task: Option<task::Id>,
    /// Its call has ended; the commit is to come.
    ended: bool,
    /// Its unit has inserted it, so that there is no lease before the commit.
    newborn: bool,
}

impl Held {
    pub(super) fn add(&self, rows: &[Row]) {
        let mut leases = self.lock();
        leases.extend(rows.iter().map(|row| (row.lease, Holding::default())));
    }

    /// Adds rows that the unit of the current task has inserted.
    pub(super) fn add_newborn(&self, rows: &[Row]) {
        let task = task::try_id();
        let mut leases = self.lock();
        leases.extend(rows.iter().map(|row| {
            let holding = Holding {
                task,
                ended: false,
                newborn: true,
            };
            (row.lease, holding)
        }));
    }

    /// Notes that rows were committed with a lease.
    pub(super) fn own(&self, leases: impl Iterator<Item = Lease>) {
        let mut held = self.lock();
        for lease in leases {
            if let Some(holding) = held.get_mut(&lease) {
                holding.newborn = false;
            }
        }
    }

    /// Notes that the current task runs these rows.
    pub(super) fn take_on(&self, rows: &[Row]) {
        let mut leases = self.lock();
        for row in rows {
            if let Some(holding) = leases.get_mut(&row.lease) {
                holding.task = task::try_id();
            }
        }
    }

    /// Notes that rows wait for a worker again.
    pub(super) fn put_back(&self, rows: &VecDeque<Row>) {
        let mut leases = self.lock();
        for row in rows {
            if let Some(holding) = leases.get_mut(&row.lease) {
                holding.task = None;
            }
        }
    }

    /// Notes that a row's call has ended, and only its commit is to come.
    pub(super) fn note_ended(&self, lease: Lease) {
        if let Some(holding) = self.lock().get_mut(&lease) {
            holding.ended = true;
        }
    }

    /// Notes that the calls of rows are to be made again.
    pub(super) fn note_undone(&self, rows: &[Row]) {
        let mut leases = self.lock();
        for row in rows {
            if let Some(holding) = leases.get_mut(&row.lease) {
                holding.ended = false;
            }
        }
    }

    /// The leases of rows whose calls have not ended.
    pub(super) fn to_run(&self) -> Vec<Lease> {
        self.leases_of(|holding| !holding.ended)
    }

    pub(super) fn contains(&self, lease: Lease) -> bool {
        self.lock().contains_key(&lease)
    }

    pub(super) fn remove(&self, leases: impl IntoIterator<Item = Lease>) {
        let mut held = self.lock();
        for lease in leases {
            held.remove(&lease);
        }
    }

    /// Removes the rows of a task that has ended early, those that its unit had inserted too.
    pub(super) fn remove_of_task(&self, task: task::Id) {
        self.lock().retain(|_, holding| holding.task != Some(task));
    }

    /// All leases.
    pub(super) fn all(&self) -> Vec<Lease> {
        self.leases_of(|_| true)
    }

    /// The leases of rows that wait for a worker.
    pub(super) fn waiting(&self) -> Vec<Lease> {
        self.leases_of(|holding| holding.task.is_none())
    }

    /// The leases of rows that one task runs.
    pub(super) fn of_task(&self, task: task::Id) -> Vec<Lease> {
        self.leases_of(|holding| holding.task == Some(task))
    }

    fn leases_of(&self, matches: impl Fn(&Holding) -> bool) -> Vec<Lease> {
        let held = self.lock();
        let leases = held
            .iter()
            .filter(|(_, holding)| !holding.newborn && matches(holding));
        leases.map(|(lease, _)| *lease).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
