//! The servers, and how often what is measured on them.

use std::{fmt, sync::Arc};

use eventflow_servers::{postgres::PostgresServer, redis::RedisServer};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::OnceCell;

use crate::{
    Result,
    job::{Flood, Job, Mode, Outcome, Until, Work},
    load::{Load, Shares},
    peers::{Peer, PeerRuns, Peers},
    progress::Progress,
    site::{Done, ServerSite, SqliteSite},
};

/// What the tests' servers do otherwise: here a commit is on the disk when it is answered.
const POSTGRES: [&str; 2] = ["fsync=on", "max_connections=100"];

/// As Redis comes, but without snapshots, whose forks would meet some runs and not others.
const REDIS: [&str; 2] = ["--appendonly", "no"];

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) events: u32,
    pub(crate) runs: u32,
    pub(crate) servers: Servers,
    /// Those that it is asked for.
    peers: Option<Peers>,
    pub(crate) progress: Progress,
    noop: OnceCell<Vec<Pair>>,
}

#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) on: On,
    pub(crate) work: Work,
    pub(crate) mode: Mode,
}

/// Where events come from and are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Redis and Postgres.
    Servers,
    /// A stream in memory, and a file.
    Sqlite,
}

impl Case {
    pub(crate) const NOOP: Self = Self::new(On::Servers, Work::Nothing, Mode::Owned);
    pub(crate) const NOOP_INLINE: Self = Self::new(On::Servers, Work::Nothing, Mode::Inline);
    pub(crate) const INSERT: Self = Self::new(On::Servers, Work::Insert, Mode::Owned);
    pub(crate) const INSERT_INLINE: Self = Self::new(On::Servers, Work::Insert, Mode::Inline);
    pub(crate) const SQLITE_NOOP: Self = Self::new(On::Sqlite, Work::Nothing, Mode::Owned);
    pub(crate) const SQLITE_INSERT: Self = Self::new(On::Sqlite, Work::Insert, Mode::Owned);

    const fn new(on: On, work: Work, mode: Mode) -> Self {
        Self { on, work, mode }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.work {
            Work::Nothing => "no-op handler",
            Work::Insert => "one insert",
        })?;
        f.write_str(match self.mode {
            Mode::Owned => "",
            Mode::Inline => ", inline",
            Mode::Ordered => ", ordered",
        })?;
        f.write_str(match self.on {
            On::Servers => "",
            On::Sqlite => ", SQLite",
        })
    }
}

/// What came of a run, and how busy the machine was meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) events: u32,
    pub(crate) outcome: Outcome,
    pub(crate) shares: Shares,
}

/// A run of the engine, and one of the bare loop directly before or after it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) engine: Run,
    pub(crate) bare: Run,
}

impl Run {
    /// Does a job.
    pub(crate) async fn of(job: &Job, events: u32) -> Result<Self> {
        let load = Load::start()?;
        let outcome = job.run().await?;
        Ok(Self {
            events,
            outcome,
            shares: load.shares()?,
        })
    }

    /// Events per second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.events) / self.outcome.seconds
    }
}

impl Bench {
    /// Starts the servers, to measure so many workloads on them.
    pub(crate) async fn start(
        events: u32,
        runs: u32,
        workloads: usize,
        peers: Option<Peers>,
    ) -> Result<Self> {
        let (redis, postgres) = tokio::join!(
            RedisServer::start_with(&REDIS),
            PostgresServer::start_with(&POSTGRES)
        );
        Ok(Self {
            events,
            runs,
            servers: Servers { redis, postgres },
            peers,
            progress: Progress::start(workloads)?,
            noop: OnceCell::new(),
        })
    }

    /// The runs with the handler that does nothing, which several lines are about.
    pub(crate) async fn noop(&self) -> Result<&[Pair]> {
        let pairs = self.noop.get_or_try_init(|| self.pairs(Case::NOOP));
        Ok(pairs.await?)
    }

    /// Runs a peer, if peers are asked for.
    pub(crate) async fn peer(&self, peer: Peer, work: Work) -> Result<Option<Arc<PeerRuns>>> {
        let Some(peers) = &self.peers else {
            return Ok(None);
        };
        self.progress.say(peer.name());
        let measure = peers.measure(&self.servers, (peer, work), self.events, self.runs);
        measure.await.map(Some)
    }

    /// Runs both contenders by turns, so that what disturbs one disturbs the other.
    pub(crate) async fn pairs(&self, case: Case) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for run in 1..=self.runs {
            self.progress
                .say(format!("{case}, run {run} of {}", self.runs));
            let pair = if run % 2 == 0 {
                let engine = self.run(Job::Engine, case).await?;
                let bare = self.run(Job::Bare, case).await?;
                Pair { engine, bare }
            } else {
                let bare = self.run(Job::Bare, case).await?;
                let engine = self.run(Job::Engine, case).await?;
                Pair { engine, bare }
            };
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Runs one on a fresh database and a stream in which all events wait, and checks that each was
    /// done once.
    async fn run(&self, contender: fn(Flood) -> Job, case: Case) -> Result<Run> {
        let events = self.events;
        let flood = |place| Flood {
            place,
            work: case.work,
            mode: case.mode,
            workers: None,
            until: Until::Processed(events),
        };
        let (run, done) = match case.on {
            On::Servers => {
                let mut site = ServerSite::create(&self.servers, events).await?;
                let job = contender(flood(site.place()));
                let run = Run::of(&job, events).await?;
                let done = site.done().await?;
                site.remove(&self.servers).await?;
                (run, done)
            }
            On::Sqlite => {
                let site = SqliteSite::create().await?;
                let job = contender(flood(site.place()));
                (Run::of(&job, events).await?, site.done().await?)
            }
        };
        if done == Done::all(events, case.work) {
            Ok(run)
        } else {
            Err(format!("not all was done, or not once, in {case}: {done:?}").into())
        }
    }
}

impl Servers {
    pub(crate) async fn drop_database(&self, url: &str) {
        if let Some((_, name)) = url.rsplit_once('/') {
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            self.postgres.run(&drop).await;
        }
    }

    pub(crate) async fn postgres_version(&self) -> Result<String> {
        let mut database = PgConnection::connect(&self.postgres.url("postgres")).await?;
        let version = sqlx::query_scalar("SHOW server_version");
        Ok(version.fetch_one(&mut database).await?)
    }

    pub(crate) async fn redis_version(&self) -> Result<String> {
        let info: String = self.redis.run(&["INFO", "server"]).await;
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.ok_or("Redis does not tell its version")?.to_owned())
    }
}
