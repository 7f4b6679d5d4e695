//! What the peers share: the command line, the wait, the checks and the report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

/// The one write of the handler of [`Workload::Insert`].
pub const EFFECT: &str = "INSERT INTO effects (order_id, sku, quantity) VALUES ($1, $2, $3)";

const EFFECTS: &str =
    "CREATE TABLE effects (order_id uuid NOT NULL, sku text NOT NULL, quantity integer NOT NULL)";

/// How long a worker may do nothing before the run has failed.
const PATIENCE: Duration = Duration::from_mins(2);

const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// What each job carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub order_id: Uuid,
    pub sku: String,
    pub quantity: i32,
}

/// What the handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Nothing.
    Noop,
    /// The [`EFFECT`].
    Insert,
}

/// How many times a handler has ended well.
#[derive(Debug, Clone, Default)]
pub struct Handled(Arc<AtomicUsize>);

impl Handled {
    /// Counts one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a peer tells of itself.
#[derive(Debug)]
pub struct Peer {
    /// The name that `run` knows.
    pub name: &'static str,
    /// The crate whose version counts.
    pub package: &'static str,
    /// What was set for throughput.
    pub tuned: String,
    /// A query that counts the jobs that are not done.
    pub unfinished: &'static str,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    database_url: String,
    /// Only python-eventflow reads from Redis.
    #[arg(long)]
    redis_url: String,
    #[arg(long)]
    workload: Workload,
    #[arg(long)]
    events: usize,
}

/// One run of one peer.
#[derive(Debug)]
pub struct Run {
    arguments: Arguments,
    connection: PgConnection,
    /// To be counted up by the handler.
    pub handled: Handled,
}

impl Run {
    /// Reads the command line, connects and creates the table of effects. Warnings go to stderr.
    pub async fn start() -> Result<Self> {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_writer(std::io::stderr)
            .init();
        let arguments = Arguments::parse();
        let mut connection = PgConnection::connect(&arguments.database_url).await?;
        connection.execute(EFFECTS).await?;
        Ok(Self {
            arguments,
            connection,
            handled: Handled::default(),
        })
    }

    pub fn database_url(&self) -> &str {
        &self.arguments.database_url
    }

    pub fn workload(&self) -> Workload {
        self.arguments.workload
    }

    pub fn events(&self) -> usize {
        self.arguments.events
    }

    /// As many orders as there are events.
    pub fn orders(&self) -> impl Iterator<Item = Order> + use<> {
        (0..self.arguments.events).map(|_| Order {
            order_id: Uuid::new_v4(),
            sku: "book".to_owned(),
            quantity: 1,
        })
    }

    /// Runs the worker until the database says that no job is left, and reports how long that took.
    pub async fn measure<W>(mut self, peer: Peer, worker: W) -> Result<()>
    where
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let enqueued = self.count(peer.unfinished).await?;
        let events = self.events();
        ensure!(enqueued == events, "{enqueued} of {events} are enqueued");

        let started = Instant::now();
        let worker = tokio::spawn(worker);
        let (mut handled, mut progressed) = (0, started);
        // Counting rows costs what is measured, so the handlers are counted first.
        while handled < events || self.count(peer.unfinished).await? > 0 {
            if worker.is_finished() {
                worker.await?.context("the worker failed")?;
                bail!("the worker ended after {handled} of {events} events");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.handled.count() > handled {
                (handled, progressed) = (self.handled.count(), Instant::now());
            }
            ensure!(
                progressed.elapsed() < PATIENCE,
                "nothing was done for {PATIENCE:?} after {handled} of {events} events"
            );
        }
        let seconds = started.elapsed().as_secs_f64();
        worker.abort();

        if self.workload() == Workload::Insert {
            let effects = self.count("SELECT count(*) FROM effects").await?;
            ensure!(effects == events, "{effects} effects of {events} events");
        }
        let report = json!({
            "peer": peer.name,
            "version": version(peer.package)?,
            "workload": self.workload(),
            "events": events,
            "seconds": seconds,
            "tuned": peer.tuned,
        });
        println!("{report}");
        Ok(())
    }

    async fn count(&mut self, query: &'static str) -> Result<usize> {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut self.connection)
            .await?;
        Ok(count.try_into()?)
    }
}

fn version(package: &str) -> Result<&'static str> {
    LOCK_FILE
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .with_context(|| format!("`{package}` is not in the lock file"))
}
