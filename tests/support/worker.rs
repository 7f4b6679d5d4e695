//! Worker processes: the service of [`work`](crate::work) in a process that a test starts, signals
//! and kills, and whose report and logs it reads.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub use crate::process::Signal;
use crate::{process::Process, shop::Mode};

/// No worker takes as long as this to do what a test waits for.
const DEADLINE: Duration = Duration::from_mins(1);

/// What a worker is told, as JSON in its only argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerConfig {
    pub job: Job,
    pub redis: String,
    pub inbox: InboxAt,
    /// The group that reads the stream `work`, and the owner of the rows.
    pub group: String,
    /// The name under which it reads; made up if there is none.
    pub reader: Option<String>,
    pub version: Version,
    pub mode: Mode,
    pub workers: usize,
    pub batch_size: usize,
    pub high_water_mark: u32,
    pub max_retries: i32,
    /// Between a failed run and the next, always the same.
    pub backoff: Duration,
    pub block: Duration,
    pub poll: Duration,
    pub lease: Duration,
    pub claim_idle: Duration,
    pub handler_timeout: Duration,
    pub grace: Duration,
    /// How long a command to Redis may take.
    pub redis_timeout: Duration,
    pub keep_processed: Duration,
    /// Leaves events of unknown types for a later deploy.
    pub leaves_unknown: bool,
    /// Keeps the order per aggregate.
    pub ordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Runs until SIGTERM.
    Consume,
    /// Publishes the events of the outbox to the stream `work`, until SIGTERM.
    Relay,
    /// Migrates, adopts a table of the Python package for its group, and ends.
    Migrate,
}

/// Where the inbox is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboxAt {
    Postgres(String),
    Sqlite(PathBuf),
}

/// Which events the service knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    Current,
    Next,
    /// Those of a [`chain`](crate::chain), on Postgres.
    Chain,
}

impl WorkerConfig {
    /// A worker with patience for nothing but its handlers.
    pub fn new(redis: impl Into<String>, inbox: InboxAt) -> Self {
        Self {
            job: Job::Consume,
            redis: redis.into(),
            inbox,
            group: "billing".to_owned(),
            reader: None,
            version: Version::Current,
            mode: Mode::OWNED,
            workers: 2,
            batch_size: 100,
            high_water_mark: 10_000,
            max_retries: 3,
            backoff: Duration::from_millis(50),
            block: Duration::from_millis(500),
            poll: Duration::from_millis(50),
            lease: Duration::from_secs(1),
            claim_idle: Duration::from_secs(1),
            handler_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(25),
            redis_timeout: Duration::from_secs(10),
            keep_processed: Duration::from_hours(7 * 24),
            leaves_unknown: false,
            ordered: false,
        }
    }
}

/// A worker process. It is killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    job: Job,
    process: Process,
    folder: TempDir,
}

impl Worker {
    /// Starts a worker.
    pub fn start(config: &WorkerConfig) -> Self {
        Self::start_with(config, &[])
    }

    /// Starts a worker with fail points, as `EVENTFLOW_FAIL` names them.
    pub fn start_to_fail(config: &WorkerConfig, fail_points: &str) -> Self {
        Self::start_with(config, &[("EVENTFLOW_FAIL", fail_points)])
    }

    /// Starts a worker with more in its environment.
    pub fn start_with(config: &WorkerConfig, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("eventflow-worker-")
            .tempdir()
            .unwrap();
        let file = |name| Stdio::from(File::create(folder.path().join(name)).unwrap());
        let mut command = Command::new(binary());
        command
            .arg(serde_json::to_string(config).unwrap())
            .env_remove("EVENTFLOW_FAIL")
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        let process = Process::start(&mut command, folder.path()).unwrap();
        Self {
            job: config.job,
            process,
            folder,
        }
    }

    /// The process's number; it is part of the worker's name in `effects`.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether a SIGSTOP has reached the process.
    pub fn is_paused(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let status = status.unwrap_or_default();
        // The state follows the name, which is in parentheses.
        let state = status.rsplit_once(") ");
        state.is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// How the process has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits until the process has ended by itself, and answers how.
    pub async fn exit(&mut self) -> ExitStatus {
        self.process.exit(DEADLINE).await
    }

    /// Stops the worker with SIGTERM once it has started, and answers what it counted.
    pub async fn stop(&mut self) -> WorkerReport {
        let started = match self.job {
            Job::Relay => "relay started",
            Job::Consume | Job::Migrate => "consumer started",
        };
        self.logs_say(started).await;
        self.signal(Signal::TERM);
        let status = self.exit().await;
        assert!(status.success(), "{status}:\n{}", self.logs());
        self.report()
    }

    /// What a worker printed that has stopped.
    pub fn report(&self) -> WorkerReport {
        WorkerReport::parse(&self.output())
    }

    /// What the worker has printed so far.
    pub fn output(&self) -> String {
        self.read("stdout")
    }

    /// What the worker has logged so far.
    pub fn logs(&self) -> String {
        self.read("stderr")
    }

    /// Waits until the worker has logged something.
    pub async fn logs_say(&self, text: &str) {
        let said = async {
            while !self.logs().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let said = tokio::time::timeout(DEADLINE, said).await;
        assert!(said.is_ok(), "no word of {text:?} in:\n{}", self.logs());
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

/// What a worker counted: every count of [`Report`](eventflow::Report), or of a relay's, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport(BTreeMap<String, u64>);

impl WorkerReport {
    /// Reads what `{:#?}` of a report prints.
    fn parse(text: &str) -> Self {
        let counts = text.lines().filter_map(|line| {
            let (name, count) = line.trim().trim_end_matches(',').split_once(": ")?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        let counts: BTreeMap<_, _> = counts.collect();
        assert!(!counts.is_empty(), "no report was printed:\n{text}");
        Self(counts)
    }

    /// One count, by the name of its field.
    pub fn count(&self, name: &str) -> u64 {
        let count = self.0.get(name);
        *count.unwrap_or_else(|| panic!("no report has a count `{name}`"))
    }
}

/// The worker's program, which Cargo builds beside the tests.
fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folders = tests.ancestors().skip(1).take(2);
    let mut programs = folders.map(|folder| folder.join("worker"));
    programs
        .find(|program| program.is_file())
        .expect("Cargo builds `worker` with the tests")
}
