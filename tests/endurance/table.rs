//! The table of a soak: what was published, what failed, how long that took, and what holds.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::{
    checks::Check,
    ledger::Carried,
    message::Kind,
    modes::Mode,
    recovery::{Recoveries, Recovery},
};

/// How many words are said against one check.
const MOST_AGAINST: usize = 10;

/// What a soak came to.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) carried: Carried,
    /// How many there were in each mode.
    pub(crate) workers: BTreeMap<Mode, u32>,
    pub(crate) faults: BTreeMap<String, u32>,
    /// Counts of the workers that have stopped by themselves.
    pub(crate) losses: [(&'static str, u64); 3],
    /// What the recoveries depend on.
    pub(crate) settings: String,
    pub(crate) recoveries: Recoveries,
    pub(crate) checks: Vec<Check>,
}

impl Table {
    /// Whether all checks hold; a goal of time may be missed, though not by far.
    pub(crate) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.against.is_empty())
    }

    fn events(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of = |kind| {
            let events = self.carried.events.values();
            events.filter(|event| event.kind == kind).count()
        };
        writeln!(f, "\nevents")?;
        line(f, "done in their first run", of(Kind::Done))?;
        line(f, "fail once", of(Kind::FailsOnce))?;
        line(f, "fail always", of(Kind::FailsAlways))?;
        line(f, "are refused", of(Kind::Refused))?;
        line(f, "entries with the same event", self.carried.duplicates)?;
        line(f, "malformed entries", self.carried.malformed.len())?;
        line(f, "entries in all", self.carried.entries)
    }

    fn recoveries(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<52}{:>8}{:>9}{:>9}{:>9}",
            "recovery", "samples", "median", "worst", "goal"
        )?;
        for (recovery, times) in self.recoveries.sorted() {
            recovery_line(f, recovery, &times)?;
        }
        writeln!(f, "  with {}", self.settings)
    }

    fn checks(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nchecks")?;
        for Check { name, against } in &self.checks {
            let verdict = if against.is_empty() { "holds" } else { "FAILS" };
            line(f, name, verdict)?;
            for text in against.iter().take(MOST_AGAINST) {
                writeln!(f, "      {text}")?;
            }
            if against.len() > MOST_AGAINST {
                writeln!(f, "      and {} more", against.len() - MOST_AGAINST)?;
            }
        }
        Ok(())
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        self.events(f)?;
        writeln!(f, "\nworkers")?;
        for (mode, count) in &self.workers {
            line(f, &mode.to_string(), count)?;
        }
        writeln!(f, "\nfaults")?;
        for (kind, count) in &self.faults {
            line(f, kind, count)?;
        }
        writeln!(f, "\ncounted by the workers that were not killed")?;
        for (name, count) in self.losses {
            line(f, name, count)?;
        }
        self.recoveries(f)?;
        self.checks(f)
    }
}

fn line(f: &mut Formatter<'_>, name: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {name:<50}{value:>8}")
}

fn recovery_line(f: &mut Formatter<'_>, recovery: Recovery, times: &[Duration]) -> fmt::Result {
    let (Some(worst), Some(median)) = (times.last(), times.get(times.len().saturating_sub(1) / 2))
    else {
        return Ok(());
    };
    let goal = recovery.goal();
    let met = if *worst <= goal { "met" } else { "missed" };
    let [median, worst, goal] = [*median, *worst, goal].map(|time| {
        let seconds = time.as_secs_f64();
        format!("{seconds:.3} s")
    });
    let (name, samples) = (recovery.to_string(), times.len());
    writeln!(
        f,
        "  {name:<50}{samples:>8}{median:>9}{worst:>9}{goal:>9}  {met}"
    )
}
