//! What a process under measure is told to do, and what it answers.

use std::{path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::process::Command;

use crate::{Result, bare, engine, usage::Usage};

/// One measured run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Job {
    /// The engine takes what waits.
    Engine(Flood),
    /// The best loop without a framework does.
    Bare(Flood),
    /// The engine takes events as they come.
    EngineTrickle(Trickle),
    /// A loop without a framework does.
    BareTrickle(Trickle),
}

/// A stream in which events wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Flood {
    pub(crate) place: Place,
    pub(crate) work: Work,
    pub(crate) mode: Mode,
    /// As many as there are by default unless set.
    pub(crate) workers: Option<usize>,
    pub(crate) until: Until,
}

/// What is done with each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Work {
    /// It is decoded.
    Nothing,
    /// One row is written in the event's transaction.
    Insert,
}

/// Which transactions an event goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// One stores it, leased; another has the handler's writes, behind a savepoint of their own, and
    /// its next state.
    Owned,
    /// One for everything, with no savepoints.
    Inline,
    /// As owned, the events of an aggregate one after the other.
    Ordered,
}

/// Where events come from and are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Place {
    Servers { redis: String, postgres: String },
    Sqlite { file: PathBuf },
}

/// When a run is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Until {
    /// So many events are processed.
    Processed(u32),
    /// No event has been processed for so long.
    Quiet(Duration),
}

/// What came of a flood.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From the start of the consumer, which is connected, to its end.
    pub(crate) seconds: f64,
    /// How much CPU time the process used meanwhile.
    pub(crate) cpu_seconds: f64,
    /// How much memory it had at most, ever.
    pub(crate) peak_bytes: u64,
}

/// Events that come one by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trickle {
    pub(crate) redis: String,
    pub(crate) postgres: String,
    /// Between an event and the next.
    pub(crate) pause: Duration,
    pub(crate) events: u32,
}

/// How long events took from `XADD` to the start of their handlers, in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

impl Job {
    /// Does it in a process of its own.
    pub(crate) async fn run<T: DeserializeOwned>(&self) -> Result<T> {
        let output = Command::new(std::env::current_exe()?)
            .arg("--job")
            .arg(serde_json::to_string(self)?)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            return Err(format!("a run failed ({}): {self:?}", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Does a job in this process, and prints what came of it.
pub(crate) async fn answer(job: &str) -> Result<()> {
    // It must not run on, and disturb what is measured next, when the benchmark is killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let answer = match serde_json::from_str(job)? {
        Job::Engine(flood) => serde_json::to_string(&engine::flood(&flood).await?),
        Job::Bare(flood) => serde_json::to_string(&bare::flood(&flood).await?),
        Job::EngineTrickle(trickle) => serde_json::to_string(&engine::trickle(&trickle).await?),
        Job::BareTrickle(trickle) => serde_json::to_string(&bare::trickle(&trickle).await?),
    };
    println!("{}", answer?);
    Ok(())
}

impl Outcome {
    /// What came of a run that has just ended, and that began with this usage.
    pub(crate) fn since(begun: &Usage) -> Result<Self> {
        let ended = Usage::now()?;
        Ok(Self {
            seconds: ended.time.duration_since(begun.time).as_secs_f64(),
            cpu_seconds: ended.cpu.saturating_sub(begun.cpu).as_secs_f64(),
            peak_bytes: ended.peak_bytes,
        })
    }
}
