//! How busy the machine is with other programs.

use std::{
    collections::HashMap,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use rustix::param::clock_ticks_per_second;

use crate::Result;

/// Measures from its start on.
#[derive(Debug)]
pub(crate) struct Load {
    begun: Instant,
    before: Ticks,
}

/// CPU time, in the system's ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    /// Of this process, the servers and whatever else it has started.
    own: u64,
}

/// Shares of the machine's CPU time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Of other programs than this one and those that it has started.
    pub(crate) foreign: f64,
    /// Of all programs.
    pub(crate) all: f64,
}

impl Load {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            before: Ticks::now()?,
        })
    }

    /// The shares from the start until now.
    pub(crate) fn shares(&self) -> Result<Shares> {
        let now = Ticks::now()?;
        let machine = self.begun.elapsed() * u32::try_from(available_parallelism()?.get())?;
        let share = |ticks: u64| -> Result<f64> {
            let time = Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second())?;
            Ok(time.as_secs_f64() / machine.as_secs_f64())
        };
        let all = now.all.saturating_sub(self.before.all);
        let own = now.own.saturating_sub(self.before.own);
        Ok(Shares {
            foreign: share(all.saturating_sub(own))?,
            all: share(all)?,
        })
    }
}

impl Ticks {
    fn now() -> Result<Self> {
        Ok(Self {
            all: all()?,
            own: own()?,
        })
    }
}

/// What all CPUs have done since the machine started, but for being idle.
fn all() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let cpus = stat.lines().next().unwrap_or_default();
    let ticks = cpus.split_whitespace().skip(1).map(str::parse);
    let ticks = ticks.collect::<std::result::Result<Vec<u64>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; the others are part of the first two.
    let busy = ticks.iter().take(8).enumerate();
    let busy = busy.filter(|(place, _)| !matches!(place, 3 | 4));
    Ok(busy.map(|(_, ticks)| ticks).sum())
}

/// What this process and its descendants have done, also those that have ended.
fn own() -> Result<u64> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended in between has left its ticks to its parent.
        if let Some(stat) = stat(process) {
            children.entry(stat.parent).or_default().push(process);
            ticks.insert(process, stat.ticks);
        }
    }
    let mut sum = 0;
    let mut ahead = vec![std::process::id()];
    while let Some(process) = ahead.pop() {
        sum += ticks.get(&process).copied().unwrap_or(0);
        ahead.extend(children.remove(&process).unwrap_or_default());
    }
    Ok(sum)
}

struct Stat {
    parent: u32,
    /// Its own, and those of its children that have ended.
    ticks: u64,
}

fn stat(process: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = fields.get(11..15)?.iter();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum(),
    })
}
