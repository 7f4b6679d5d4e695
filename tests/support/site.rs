//! Where worker processes work: a Redis, a migrated inbox, and a table for their effects.

use std::time::Duration;

use deadpool_redis::redis::{Value, from_redis_value};
use eventflow::{Inbox, RedisStream, outbox::OutboxTable, prelude::*};

use crate::{
    eventually,
    redis::RedisServer,
    shop::Database,
    work::{CREATE_EFFECTS, UNEQUAL},
    worker::WorkerConfig,
};

/// No site takes as long as this to get to where a test waits for it.
const DEADLINE: Duration = Duration::from_mins(1);

/// Servers for the workers of one test.
#[derive(Debug)]
pub struct Site<D> {
    pub redis: RedisServer,
    pub database: D,
}

impl<D: Database> Site<D> {
    /// Starts a site whose inbox is migrated.
    pub async fn start() -> Self {
        let site = Self::without_inbox().await;
        site.database.inbox().migrate().await.unwrap();
        site
    }

    /// Starts a site whose inbox has no table yet.
    pub async fn without_inbox() -> Self {
        let (redis, database) = tokio::join!(RedisServer::start(), D::create());
        create_effects(&database).await;
        Self { redis, database }
    }

    /// Starts a site on a database that the test has made, with its inbox migrated.
    pub async fn on(database: D) -> Self {
        create_effects(&database).await;
        database.inbox().migrate().await.unwrap();
        let redis = RedisServer::start().await;
        Self { redis, database }
    }

    /// A worker of this site.
    pub fn worker(&self) -> WorkerConfig {
        WorkerConfig {
            mode: D::MODE,
            ..WorkerConfig::new(self.redis.url(), self.database.at())
        }
    }

    /// Publishes events in this order, and answers their ids, sorted.
    pub async fn publish<E: Event>(&self, events: impl IntoIterator<Item = E>) -> Vec<String> {
        let envelopes = events.into_iter().map(|event| Envelope::new(&event));
        let envelopes: Vec<_> = envelopes.map(Result::unwrap).collect();
        self.publish_envelopes(&envelopes).await
    }

    /// As [`publish`](Self::publish).
    pub async fn publish_envelopes(&self, envelopes: &[Envelope]) -> Vec<String> {
        let sink = RedisStream::builder(self.redis.url()).stream("work");
        let sink = sink.connect().await.unwrap();
        sink.send(envelopes).await.unwrap();
        let ids = envelopes
            .iter()
            .map(|envelope| &envelope.metadata().event_id);
        let mut ids: Vec<_> = ids.cloned().collect();
        ids.sort();
        ids
    }

    /// The event ids of the committed effects, sorted: an event that has two is there twice. As many
    /// events were published.
    pub async fn effects(&self) -> Vec<String> {
        let unequal = self.database.texts(UNEQUAL).await;
        assert!(unequal.is_empty(), "not published as often: {unequal:?}");
        let sql = "SELECT event_id FROM effects";
        let mut ids = self.database.texts(sql).await;
        ids.sort();
        ids
    }

    /// The event ids of rows in this state, sorted.
    pub async fn rows(&self, status: &str) -> Vec<String> {
        let sql = format!("SELECT event_id FROM event_inbox WHERE status = '{status}'");
        let mut ids = self.database.texts(sql).await;
        ids.sort();
        ids
    }

    /// One column of all rows, as text, in order of the event ids; empty where it is NULL.
    pub async fn column(&self, column: &str) -> Vec<String> {
        let sql = format!(
            "SELECT COALESCE(CAST({column} AS TEXT), '') FROM event_inbox ORDER BY event_id"
        );
        self.database.texts(sql).await
    }

    /// How many entries of the stream the group has not acknowledged.
    pub async fn pending(&self, group: &str) -> i64 {
        let reply: Vec<Value> = self.redis.run(&["XPENDING", "work", group]).await;
        from_redis_value(reply[0].clone()).unwrap()
    }

    /// Waits until rows of exactly these events are in this state.
    pub async fn await_rows(&self, status: &str, event_ids: &[String]) {
        eventually(DEADLINE, async || self.rows(status).await == event_ids).await;
    }

    /// Waits until the group has acknowledged everything that it was given.
    pub async fn await_acknowledged(&self, group: &str) {
        eventually(DEADLINE, async || self.pending(group).await == 0).await;
    }
}

/// Creates the tables of the handlers' effects: what they write, and what they publish.
async fn create_effects<D: Database>(database: &D) {
    database.change(CREATE_EFFECTS).await;
    database.inbox().outbox().migrate().await.unwrap();
}
