//! The servers, and how often what is measured on them.

use std::time::Duration;

use eventflow_servers::{postgres::PostgresServer, redis::RedisServer};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::{Connection as _, PgConnection};

use crate::{
    Result,
    job::{Contender, Job, Mode, Outcome, Work},
    load::{Load, Shares},
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
    progress: ProgressBar,
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
    /// Events per second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.events) / self.outcome.seconds
    }
}

impl Bench {
    pub(crate) async fn start(events: u32, runs: u32) -> Self {
        let (redis, postgres) = tokio::join!(
            RedisServer::start_with(&REDIS),
            PostgresServer::start_with(&POSTGRES)
        );
        let progress = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(200));
        Self {
            events,
            runs,
            servers: Servers { redis, postgres },
            progress,
        }
    }

    /// Runs both contenders by turns, so that what disturbs one disturbs the other.
    pub(crate) async fn pairs(&self, case: Case) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for run in 0..self.runs {
            let pair = if run % 2 == 0 {
                let bare = self.run(Contender::Bare, case).await?;
                let engine = self.run(Contender::Engine, case).await?;
                Pair { engine, bare }
            } else {
                let engine = self.run(Contender::Engine, case).await?;
                let bare = self.run(Contender::Bare, case).await?;
                Pair { engine, bare }
            };
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Runs one on a fresh database and a stream in which all events wait, and checks that each was
    /// done once.
    pub(crate) async fn run(&self, contender: Contender, case: Case) -> Result<Run> {
        let events = self.events;
        self.say(format!("{contender:?}: {case:?}"));
        let job = |place| Job {
            contender,
            work: case.work,
            mode: case.mode,
            place,
            events,
        };
        let (run, done) = match case.on {
            On::Servers => {
                let mut site = ServerSite::create(&self.servers, events).await?;
                let run = run(&job(site.place())).await?;
                let done = site.done().await?;
                site.remove(&self.servers).await?;
                (run, done)
            }
            On::Sqlite => {
                let site = SqliteSite::create().await?;
                (run(&job(site.place())).await?, site.done().await?)
            }
        };
        if done == Done::all(events, case.work) {
            Ok(run)
        } else {
            Err(format!("{contender:?} did not do its work: {done:?}").into())
        }
    }

    /// Tells what is measured now.
    pub(crate) fn say(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.progress.set_message(what);
    }

    /// Nothing is measured any more.
    pub(crate) fn finish(&self) {
        self.progress.finish_and_clear();
    }
}

impl Servers {
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

async fn run(job: &Job) -> Result<Run> {
    let load = Load::start()?;
    let outcome = job.run().await?;
    Ok(Run {
        events: job.events,
        outcome,
        shares: load.shares()?,
    })
}
