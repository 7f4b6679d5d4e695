//! Whole services on real Redis and real Postgres.

mod examples;
mod python;
mod readme;
mod secrets;
mod two_consumers;
mod what_python_gets_wrong;

use std::time::Duration;

use eventflow::{
    PgInbox, RedisStream, Report, consumer::ConsumerBuilder, prelude::*, router::Router,
};
use eventflow_tests::{
    eventually,
    postgres::Database,
    redis::RedisServer,
    work::{Runs, Work, WorkState, create_effects},
};
use sqlx::PgPool;
use tokio::{sync::oneshot, task::JoinHandle};

/// A Redis, a migrated database, and a table for the effects.
struct Site {
    redis: RedisServer,
    database: Database,
    pool: PgPool,
}

impl Site {
    async fn start() -> Self {
        let site = Self::without_inbox().await;
        PgInbox::connect(site.database.url())
            .await
            .unwrap()
            .migrate()
            .await
            .unwrap();
        site
    }

    async fn without_inbox() -> Self {
        let (redis, database) = tokio::join!(RedisServer::start(), Database::create());
        let pool = PgPool::connect(database.url()).await.unwrap();
        create_effects(&pool).await;
        Self {
            redis,
            database,
            pool,
        }
    }

    /// A stream to publish to.
    async fn sink(&self) -> RedisStream {
        RedisStream::builder(self.redis.url())
            .stream("work")
            .connect()
            .await
            .unwrap()
    }

    /// A consumer with patience for nothing.
    async fn consumer(
        &self,
        group: &str,
        state: WorkState,
    ) -> ConsumerBuilder<RedisStream, PgInbox, Router<Work, PgInbox, WorkState>> {
        let inbox = PgInbox::connect(self.database.url()).await.unwrap();
        let stream = RedisStream::builder(self.redis.url())
            .stream("work")
            .group(group)
            .connect()
            .await
            .unwrap();
        Consumer::builder(stream, inbox, Work::new(state))
            .poll_interval(Duration::from_millis(50))
            .claim_idle(Duration::from_millis(500))
            .lease(Duration::from_secs(2))
            .backoff(eventflow::inbox::backoff::Backoff::new(
                Duration::from_millis(50),
                Duration::from_millis(200),
            ))
    }

    /// Waits until so many rows of the inbox are in this state.
    async fn await_rows(&self, status: &str, count: i64) {
        eventually(Duration::from_mins(1), async || {
            eventflow_tests::work::rows_in(&self.pool, status).await == count
        })
        .await;
    }

    /// How many entries the group has not acknowledged.
    async fn pending(&self, group: &str) -> i64 {
        let reply: Vec<deadpool_redis::redis::Value> =
            self.redis.run(&["XPENDING", "work", group]).await;
        deadpool_redis::redis::from_redis_value(reply[0].clone()).unwrap()
    }
}

/// A consumer that runs in the background.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<eventflow::Result<Report>>,
    runs: Runs,
}

impl Running {
    async fn start(site: &Site, group: &str, name: &str) -> Self {
        let state = WorkState {
            name: name.to_owned(),
            runs: Runs::default(),
        };
        let runs = state.runs.clone();
        let consumer = site.consumer(group, state).await.build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(consumer.run_until(stopped));
        Self { stop, task, runs }
    }

    async fn stop(self) -> Report {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }
}
