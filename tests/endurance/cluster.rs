//! The servers, the networks before them, and the workers.

use std::{path::Path, time::Duration};

use eventflow_tests::{
    postgres::PostgresServer,
    proxy::Proxy,
    redis::RedisServer,
    worker::{InboxAt, WorkerConfig},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{crew::Crew, database::Database, modes::Modes, schedule::LEASE, stream::Stream};

/// How often an event may fail. Much more often than one can lapse by bad luck, so that only those
/// become dead letters that deserve it.
pub(crate) const RUNS: i32 = 10;

/// Within this time everything is done once nothing fails any more.
const DRAINED_WITHIN: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) redis: Mutex<RedisServer>,
    pub(crate) redis_url: String,
    pub(crate) redis_network: Mutex<Proxy>,
    pub(crate) postgres: Mutex<PostgresServer>,
    pub(crate) postgres_network: Mutex<Proxy>,
    pub(crate) database: Database,
    pub(crate) crew: Crew,
}

impl Cluster {
    pub(crate) async fn start(modes: Modes, logs: &Path) -> Self {
        let (redis, postgres) = tokio::join!(RedisServer::start(), PostgresServer::start());
        let redis_network = Proxy::start(redis.port()).await;
        let postgres_network = Proxy::start(postgres.port()).await;
        let url = postgres.create_database().await;
        let database = Database::set_up(&url).await;
        let inbox = InboxAt::Postgres(postgres_network.url(&url));
        let worker = WorkerConfig {
            max_retries: RUNS,
            lease: LEASE,
            claim_idle: Duration::from_secs(2),
            handler_timeout: Duration::from_secs(5),
            redis_timeout: Duration::from_secs(2),
            ..WorkerConfig::new(redis_network.url(&redis.url()), inbox)
        };
        Self {
            redis_url: redis.url(),
            redis: Mutex::new(redis),
            redis_network: Mutex::new(redis_network),
            postgres: Mutex::new(postgres),
            postgres_network: Mutex::new(postgres_network),
            database,
            crew: Crew::start(worker, modes, logs).await,
        }
    }

    /// Sessions that were left in a transaction until Postgres ended them.
    pub(crate) async fn ended_in_transaction(&self) -> Vec<String> {
        let log = self.postgres.lock().await.log();
        let lines = log.lines();
        let lines = lines.filter(|line| line.contains("idle-in-transaction timeout"));
        lines.map(str::to_owned).collect()
    }

    /// Waits until nothing is left to be done; answers what is left if that takes too long.
    pub(crate) async fn drained(&self) -> Vec<String> {
        let deadline = Instant::now() + DRAINED_WITHIN;
        let mut stream = Stream::open(&self.redis_url).await;
        loop {
            // What is acknowledged stands in the database.
            let mut left = stream.left().await;
            let unfinished = self.database.unfinished().await;
            if unfinished > 0 {
                left.push(format!("{unfinished} rows not finished"));
            }
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
