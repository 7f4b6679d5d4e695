//! What a process under measure is told to do, and what it answers.

use std::{path::PathBuf, process::Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{Result, bare, engine, usage::Usage};

/// One measured run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contender: Contender,
    pub(crate) work: Work,
    pub(crate) mode: Mode,
    pub(crate) place: Place,
    /// How many events wait, after which the run ends.
    pub(crate) events: u32,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Contender {
    Engine,
    /// The best loop without a framework.
    Bare,
}

/// What is done with each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Where events come from and are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Place {
    Servers { redis: String, postgres: String },
    Sqlite { file: PathBuf },
}

/// What came of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From the start of the consumer, which is connected, to the last event's commit.
    pub(crate) seconds: f64,
    /// How much CPU time the process used meanwhile.
    pub(crate) cpu_seconds: f64,
    /// How much memory it had at most, ever.
    pub(crate) peak_bytes: u64,
}

impl Job {
    /// Does it in a process of its own.
    pub(crate) async fn run(&self) -> Result<Outcome> {
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
    let job: Job = serde_json::from_str(job)?;
    let outcome = match job.contender {
        Contender::Engine => engine::run(&job).await?,
        Contender::Bare => bare::run(&job).await?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
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
