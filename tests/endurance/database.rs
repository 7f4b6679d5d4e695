//! What the soak reads in the database, and does to it, beside the workers and past their proxy.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use eventflow::{Inbox, PgInbox, prelude::Uuid};
use eventflow_tests::work::{UNEQUAL, create_effects};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// No outage is as long as this.
const DEADLINE: Duration = Duration::from_mins(1);

/// No session of a worker that has nothing to do is in a transaction for as long as this.
const IDLE_FOR: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Database(PgPool);

/// A row of the inbox.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) event_id: String,
    pub(crate) aggregate_id: Uuid,
    pub(crate) status: String,
    pub(crate) retry_count: i32,
    pub(crate) error_message: Option<String>,
    pub(crate) raw: Option<Vec<u8>>,
}

/// What the workers have written.
#[derive(Debug)]
pub(crate) struct Written {
    /// All rows of the inbox.
    pub(crate) rows: Vec<Row>,
    /// The events of all effects: of one that has two, twice.
    pub(crate) effects: Vec<String>,
    /// The events whose effects and published events are not as many.
    pub(crate) unequal: Vec<String>,
    /// The events that have published, in the order of the outbox.
    pub(crate) published: Vec<String>,
}

/// A claim: a row's id, and its token.
pub(crate) type Claim = (Uuid, i64);

impl Database {
    /// Makes the tables of a new database.
    pub(crate) async fn set_up(url: &str) -> Self {
        let inbox = PgInbox::connect(url).await.unwrap();
        inbox.migrate().await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(1))
            .connect(&format!("{url}?application_name=soak"))
            .await
            .unwrap();
        create_effects(&pool).await;
        Self(pool)
    }

    /// The database's clock; waits for an outage to end.
    pub(crate) async fn now(&self) -> DateTime<Utc> {
        answer(async || {
            sqlx::query_scalar("SELECT clock_timestamp()")
                .fetch_one(&self.0)
                .await
        })
        .await
    }

    /// The rows that a process has claimed, with work of so many milliseconds or more.
    pub(crate) async fn claims_of(&self, process: u32, takes_ms: u32) -> Vec<Claim> {
        answer(async || {
            sqlx::query_as(
                "SELECT id, lock_token FROM event_inbox
                WHERE status = 'processing' AND starts_with(locked_by, $1)
                    AND (payload->>'takes_ms')::bigint >= $2",
            )
            .bind(format!("{process}-"))
            .bind(i64::from(takes_ms))
            .fetch_all(&self.0)
            .await
        })
        .await
    }

    /// Waits until nobody holds a row by these claims; answers for how long, at most the deadline.
    pub(crate) async fn claims_are_over(&self, claims: &[Claim], deadline: Duration) -> Duration {
        let begun = Instant::now();
        let (ids, tokens): (Vec<_>, Vec<_>) = claims.iter().copied().unzip();
        loop {
            let held: bool = answer(async || {
                sqlx::query_scalar(
                    "SELECT EXISTS (
                        SELECT FROM event_inbox AS inbox
                        JOIN UNNEST($1::uuid[], $2::bigint[]) AS claim(id, token)
                            ON inbox.id = claim.id AND inbox.lock_token = claim.token
                        WHERE inbox.status = 'processing')",
                )
                .bind(&ids)
                .bind(&tokens)
                .fetch_one(&self.0)
                .await
            })
            .await;
            if !held || begun.elapsed() > deadline {
                return begun.elapsed();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until an event is processed; answers how long after a time that was, at most the
    /// deadline. One that was received before the time counts only if `any` does.
    pub(crate) async fn first_processed(
        &self,
        since: DateTime<Utc>,
        any: bool,
        deadline: Duration,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            let first: Option<DateTime<Utc>> = answer(async || {
                sqlx::query_scalar(
                    "SELECT min(processed_at) FROM event_inbox
                    WHERE processed_at > $1 AND (received_at > $1 OR $2)",
                )
                .bind(since)
                .bind(any)
                .fetch_one(&self.0)
                .await
            })
            .await;
            if let Some(first) = first {
                return (first - since).to_std().unwrap();
            }
            if begun.elapsed() > deadline {
                return begun.elapsed();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends the workers' sessions, as an operator or a failing server does.
    pub(crate) async fn terminate_sessions(&self, only_in_transaction: bool) {
        let terminating = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name <> 'soak'
                AND (state LIKE 'idle in transaction%' OR NOT $1)",
        )
        .bind(only_in_transaction)
        .execute(&self.0);
        // If the server is down there is none.
        terminating.await.map(drop).unwrap_or_default();
    }

    /// How many rows are neither processed nor dead letters.
    pub(crate) async fn unfinished(&self) -> i64 {
        answer(async || {
            sqlx::query_scalar(
                "SELECT count(*) FROM event_inbox WHERE status NOT IN ('processed', 'dead_letter')",
            )
            .fetch_one(&self.0)
            .await
        })
        .await
    }

    /// What the workers have written.
    pub(crate) async fn written(&self) -> Written {
        Written {
            rows: self.rows().await,
            effects: self
                .texts("SELECT event_id FROM effects ORDER BY event_id")
                .await,
            unequal: self.texts(UNEQUAL).await,
            published: self
                .texts("SELECT causation_id FROM event_outbox ORDER BY id")
                .await,
        }
    }

    async fn rows(&self) -> Vec<Row> {
        let rows: Vec<(_, _, _, _, _, _)> = answer(async || {
            sqlx::query_as(
                "SELECT event_id, aggregate_id, status, retry_count, error_message, raw
                FROM event_inbox WHERE consumer = 'billing' ORDER BY event_id",
            )
            .fetch_all(&self.0)
            .await
        })
        .await;
        let row = |(event_id, aggregate_id, status, retry_count, error_message, raw)| Row {
            event_id,
            aggregate_id,
            status,
            retry_count,
            error_message,
            raw,
        };
        rows.into_iter().map(row).collect()
    }

    /// Sessions that have a transaction open and do nothing, and go on so.
    pub(crate) async fn idle_in_transaction(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let idle = self
                .texts(
                    "SELECT concat_ws(' ', pid, state, 'since', state_change, query)
                    FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
                )
                .await;
            if idle.is_empty() || begun.elapsed() > IDLE_FOR {
                return idle;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn texts(&self, sql: &'static str) -> Vec<String> {
        answer(async || sqlx::query_scalar(sql).fetch_all(&self.0).await).await
    }
}

/// Asks until the server answers.
async fn answer<T>(question: impl AsyncFn() -> sqlx::Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match question().await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < DEADLINE, "no answer: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
