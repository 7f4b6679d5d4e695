//! What was planned while the table was small, and is kept by a connection, reads little of a large one.

use std::{sync::Arc, time::Duration};

use eventflow::{
    outbox::{Demand, Marks, PgOutbox, Retention, Term},
    prelude::*,
};
use eventflow_tests::reads::rows_read;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{
    events,
    fixture::{Fixture, Postgres},
};

/// More than as often as a statement is planned anew.
const ROUNDS: usize = 8;

/// What statements may look at that find a few rows.
const FEW: i64 = 60;

const CROWD: &str = "
    INSERT INTO event_outbox
        (event_id, event_type, aggregate_id, occurred_on, payload, payload_bytes, {columns})
    SELECT n, 'OrderPaid', gen_random_uuid(), now(), '{}', 2, {values}
    FROM generate_series(1, 50000) AS n";

/// A relay's statements, on one connection.
struct Rounds {
    fixture: Postgres,
    outbox: PgOutbox,
    pool: PgPool,
    term: Term,
}

impl Rounds {
    async fn start() -> Self {
        let fixture = Postgres::start().await;
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(fixture.database.url()).await.unwrap();
        let outbox = PgOutbox::with_pool(pool.clone()).connect().await.unwrap();
        let term = outbox
            .acquire(&Arc::from("a"), Duration::from_mins(5))
            .await;
        Self {
            fixture,
            outbox,
            pool,
            term: term.unwrap().unwrap(),
        }
    }

    /// Fetches three events, marks two as published and one as refused, and deletes nothing; answers what
    /// that has read.
    async fn round(&self) -> i64 {
        let before = rows_read(&self.pool, "event_outbox").await;
        let demand = |besides| Demand { events: 3, besides };
        let fetching = self.advance(Marks::default(), demand(Vec::new()));
        let rows: Vec<i64> = fetching.await;
        assert_eq!(rows.len(), 3);
        let marks = Marks {
            published: rows[..2]
                .iter()
                .map(|row| (*row, "1-0".to_owned()))
                .collect(),
            refused: vec![(rows[2], "too large".to_owned())],
        };
        self.advance(marks, demand(rows)).await;
        let hour = Duration::from_hours(1);
        let retention = Retention {
            published: hour,
            dead_letter: hour,
        };
        let purged = self.outbox.purge(&self.term, retention, 10).await;
        assert_eq!(purged.unwrap(), 0);
        rows_read(&self.pool, "event_outbox").await - before
    }

    async fn advance(&self, marks: Marks, demand: Demand) -> Vec<i64> {
        let advancing = self
            .outbox
            .advance(&self.term, Arc::new(marks), false, demand);
        let fetched = advancing.await.unwrap().unwrap();
        fetched.events.iter().map(|event| event.id).collect()
    }
}

#[tokio::test]
async fn what_was_planned_for_a_small_table_reads_little_of_a_large_one() {
    let rounds = Rounds::start().await;
    for round in 0..ROUNDS {
        let ids = ["a", "b", "c"].map(|name| format!("{name}{round}"));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        rounds.fixture.write(&events(&ids)).await;
        rounds.round().await;
    }

    for (columns, values) in [
        ("status", "'pending'"),
        ("publish_at", "now() + INTERVAL '1 hour'"),
        ("status, published_at", "'published', now()"),
        ("status, last_error_at", "'dead_letter', now()"),
    ] {
        let sql = CROWD
            .replace("{columns}", columns)
            .replace("{values}", values);
        rounds.fixture.change(&sql).await;
    }
    let read = rounds.round().await;

    assert!(read <= FEW, "{read} rows were read");
}
