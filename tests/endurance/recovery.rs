//! How long it takes until things work again, and how long it should take.

use std::{collections::BTreeMap, fmt, sync::Mutex, time::Duration};

use crate::{
    checks::Check,
    schedule::{LEASE, Server},
};

/// Beyond this, nobody waits for a recovery: it has taken too long by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// One that takes so many times its goal is no matter of a busy machine.
const TOO_MANY_TIMES: u32 = 3;

/// A soak as long as this has a round for each recovery.
const MEASURES_ALL: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recovery {
    /// From a worker's death until its rows run elsewhere.
    KilledWorker,
    /// From Redis' first answer until an event is handled that was published later.
    Redis,
    /// From Postgres' first answer until an event is handled.
    Postgres,
    /// From SIGTERM until a worker has ended that had nothing to do.
    IdleStop,
}

/// The times taken.
#[derive(Debug, Default)]
pub(crate) struct Recoveries(Mutex<BTreeMap<Recovery, Vec<Duration>>>);

impl Recoveries {
    pub(crate) fn note(&self, recovery: Recovery, times: impl IntoIterator<Item = Duration>) {
        let mut taken = self.0.lock().unwrap();
        taken.entry(recovery).or_default().extend(times);
    }

    /// What must hold after a soak of this length. The recovery of leased rows is measured only
    /// `with_owned`: if some workers lease them as they are stored.
    pub(crate) fn checks(&self, length: Duration, with_owned: bool) -> [Check; 2] {
        [
            Check::new(
                "each recovery was measured",
                self.unmeasured(length, with_owned),
            ),
            Check::new("no recovery took three times its goal", self.too_long()),
        ]
    }

    /// Recoveries that were not measured in a soak of this length, and should have been.
    fn unmeasured(&self, length: Duration, with_owned: bool) -> Vec<String> {
        let taken = self.sorted();
        let unmeasured = Recovery::ALL.iter().filter(|recovery| {
            let is_expected = with_owned || **recovery != Recovery::KilledWorker;
            length >= MEASURES_ALL && is_expected && taken.get(recovery).is_none_or(Vec::is_empty)
        });
        unmeasured.map(ToString::to_string).collect()
    }

    /// Times that miss their goals by far.
    fn too_long(&self) -> Vec<String> {
        let times = self.sorted().into_iter();
        let times =
            times.flat_map(|(recovery, times)| times.into_iter().map(move |t| (recovery, t)));
        times
            .filter(|(recovery, time)| *time > recovery.goal() * TOO_MANY_TIMES)
            .map(|(recovery, time)| format!("{recovery}: {:.3} s", time.as_secs_f64()))
            .collect()
    }

    /// All times by what was waited for, in ascending order.
    pub(crate) fn sorted(&self) -> BTreeMap<Recovery, Vec<Duration>> {
        let mut taken = self.0.lock().unwrap().clone();
        for times in taken.values_mut() {
            times.sort();
        }
        taken
    }
}

impl Recovery {
    const ALL: [Self; 4] = [
        Self::KilledWorker,
        Self::Redis,
        Self::Postgres,
        Self::IdleStop,
    ];

    /// The goal: none should take longer.
    pub(crate) fn goal(self) -> Duration {
        match self {
            Self::KilledWorker => LEASE + Duration::from_secs(1),
            Self::Redis | Self::Postgres => Duration::from_secs(2),
            Self::IdleStop => Duration::from_millis(100),
        }
    }
}

impl From<Server> for Recovery {
    fn from(server: Server) -> Self {
        match server {
            Server::Redis => Self::Redis,
            Server::Postgres => Self::Postgres,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KilledWorker => "rows of a killed worker run elsewhere",
            Self::Redis => "first event after a restart of Redis",
            Self::Postgres => "first event after a restart of Postgres",
            Self::IdleStop => "an idle worker stops",
        })
    }
}
