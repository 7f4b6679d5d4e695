//! The peers: other programs for the same work, on the same servers. How each is run and tuned is
//! told in `tests/peers`.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc};

use deadpool_redis::redis;
use serde::Deserialize;
use tokio::{process::Command, sync::Mutex};

use crate::{
    Result,
    bench::Servers,
    job::Work,
    load::{Load, Shares},
    repository::{repository, target},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    PythonEventflow,
    GraphileWorker,
    Apalis,
    Sqlxmq,
}

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PythonEventflow => "python-eventflow",
            Self::GraphileWorker => "graphile_worker",
            Self::Apalis => "apalis",
            Self::Sqlxmq => "sqlxmq",
        }
    }

    /// So many events take it some seconds: rates are compared.
    const fn most_events(self) -> u32 {
        match self {
            Self::PythonEventflow => 2_000,
            Self::GraphileWorker => u32::MAX,
            Self::Apalis | Self::Sqlxmq => 10_000,
        }
    }
}

/// A peer's runs with one kind of work.
#[derive(Debug)]
pub(crate) struct PeerRuns {
    peer: Peer,
    version: String,
    /// Events per second, and how busy the machine was.
    pub(crate) runs: Vec<(f64, Shares)>,
}

impl fmt::Display for PeerRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer.name(), self.version)
    }
}

/// The peers that can be run, and what came of those that have been.
#[derive(Debug)]
pub(crate) struct Peers {
    run: PathBuf,
    measured: Mutex<HashMap<(Peer, Work), Arc<PeerRuns>>>,
}

/// The line that a run prints.
#[derive(Debug, Deserialize)]
struct Printed {
    version: String,
    events: u32,
    seconds: f64,
}

impl Peers {
    /// Builds them all, unless that is done.
    pub(crate) async fn build() -> Result<Self> {
        let folder = repository().join("tests/peers");
        let mut build = Command::new(folder.join("build"));
        let status = build.env("CARGO_TARGET_DIR", target()?).status().await?;
        if !status.success() {
            return Err(format!("the peers could not be built ({status})").into());
        }
        Ok(Self {
            run: folder.join("run"),
            measured: Mutex::default(),
        })
    }

    /// Runs a peer as often as everything, once for all lines that it is in.
    pub(crate) async fn measure(
        &self,
        servers: &Servers,
        (peer, work): (Peer, Work),
        events: u32,
        runs: u32,
    ) -> Result<Arc<PeerRuns>> {
        let mut measured = self.measured.lock().await;
        if let Some(runs) = measured.get(&(peer, work)) {
            return Ok(Arc::clone(runs));
        }
        let mut all = PeerRuns {
            peer,
            version: String::new(),
            runs: Vec::new(),
        };
        for _ in 0..runs {
            let load = Load::start()?;
            let printed = self.run(servers, peer, work, events).await?;
            let rate = f64::from(printed.events) / printed.seconds;
            all.runs.push((rate, load.shares()?));
            all.version = printed.version;
        }
        let all = Arc::new(all);
        measured.insert((peer, work), Arc::clone(&all));
        Ok(all)
    }

    async fn run(&self, servers: &Servers, peer: Peer, work: Work, events: u32) -> Result<Printed> {
        let mut redis = servers.redis.connection().await;
        redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
        let database = servers.postgres.create_database().await;
        let output = Command::new(&self.run)
            .arg(peer.name())
            .args(["--database-url", &database])
            .args(["--redis-url", &servers.redis.url()])
            .args([
                "--workload",
                match work {
                    Work::Nothing => "noop",
                    Work::Insert => "insert",
                },
            ])
            .args(["--events", &events.min(peer.most_events()).to_string()])
            .env("CARGO_TARGET_DIR", target()?)
            .kill_on_drop(true)
            .output()
            .await?;
        servers.drop_database(&database).await;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} failed ({}):\n{errors}", peer.name(), output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
