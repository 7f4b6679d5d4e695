//! What Postgres reads for a statement, and what it answers, however much lies in the table.

use std::{fmt::Write as _, time::Duration};

use eventflow::{
    Envelope, Payload,
    inbox::{Due, OrderedInbox as _, Recovery, Retention},
    prelude::*,
};
use eventflow_tests::reads::rows_read;
use serde_json::value::RawValue;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{
    CONSUMER, arrival,
    fixture::{Fixture, Postgres},
    holder,
};

/// JSONB writes `1e1000` out, which makes a text 150 times as long.
#[tokio::test]
async fn a_payload_of_large_numbers_comes_back_as_short_as_it_was_sent() {
    let fixture = Postgres::start().await;
    let inbox = fixture.inbox();
    let mut text = r#"{"a":[1e1000"#.to_owned();
    while text.len() < 1024 * 1024 - 16 {
        text.push_str(",1e1000");
    }
    write!(text, "]}}").unwrap();
    let raw = RawValue::from_string(text.clone()).unwrap();
    let mut large = arrival("large");
    let payload = Payload::encode("OrderPaid", &raw).unwrap();
    large.envelope = Envelope::from_parts(large.envelope.metadata().clone(), payload);

    let fresh = inbox.insert(&holder("a"), vec![large]).await.unwrap();
    let leases = fresh.rows.iter().map(|row| row.lease).collect();
    inbox.release(leases, Duration::ZERO).await.unwrap();
    let claimed = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();

    for rows in [fresh.rows, claimed] {
        assert_eq!(rows.len(), 1);
        let payload = rows[0].envelope.payload().as_str();
        assert_eq!(payload.len(), text.len());
        assert!(payload == text);
    }
    let column = fixture.texts("SELECT payload::text FROM event_inbox").await;
    assert_eq!(column, ["{}"]);
}

/// Rows beside those that a statement is to find.
const CROWD: u64 = 50_000;

/// An inbox whose statements all run on one connection, which can be asked what they have read.
pub(super) struct Counted {
    pub(super) inbox: PgInbox,
    pool: PgPool,
    fixture: Postgres,
}

impl Counted {
    /// A table with a crowd of rows in one state, which the planner knows.
    async fn start(columns: &str, values: &str) -> Self {
        let counted = Self::open().await;
        counted.crowd(columns, values).await;
        counted.fixture.change("ANALYZE event_inbox").await;
        counted
    }

    pub(super) async fn open() -> Self {
        let fixture = Postgres::start().await;
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(fixture.database.url()).await.unwrap();
        let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
        Self {
            inbox,
            pool,
            fixture,
        }
    }

    /// Adds a crowd of rows in one state, of which the planner does not know.
    async fn crowd(&self, columns: &str, values: &str) {
        self.crowd_of("", columns, values).await;
    }

    /// As [`crowd`](Self::crowd), of rows whose event ids begin so.
    pub(super) async fn crowd_of(&self, name: &str, columns: &str, values: &str) {
        self.fixture
            .change(&format!(
                "INSERT INTO event_inbox
                    (event_id, stream_id, event_type, aggregate_id, occurred_on, payload,
                     consumer, {columns})
                SELECT '{name}' || n, '', 'OrderPaid', gen_random_uuid(), now(), '{{}}',
                    '{CONSUMER}', {values}
                FROM generate_series(1, {CROWD}) AS n"
            ))
            .await;
    }

    /// How many rows of the table the connection's statements have looked at.
    pub(super) async fn read(&self) -> i64 {
        rows_read(&self.pool, "event_inbox").await
    }

    /// Makes one row different from the crowd.
    async fn make(&self, change: &str) {
        let sql = format!("UPDATE event_inbox SET {change} WHERE event_id = '1'");
        assert_eq!(self.fixture.change(&sql).await, 1);
    }
}

/// What a statement may look at that finds one row.
const FEW: i64 = 20;

#[tokio::test]
async fn a_claim_does_not_read_what_is_scheduled_for_later() {
    let counted = Counted::start("status, next_retry_at", "'failed', now() + '1 hour'").await;
    let before = counted.read().await;

    let claimed = counted.inbox.claim(&holder("a"), Due::Now, 100).await;

    assert_eq!(claimed.unwrap().len(), 0);
    counted.make("next_retry_at = now()").await;
    let claimed = counted.inbox.claim(&holder("a"), Due::Now, 100).await;
    assert_eq!(claimed.unwrap().len(), 1);
    let read = counted.read().await - before;
    assert!(read <= FEW, "{read} rows were read");
}

#[tokio::test]
async fn a_recovery_does_not_read_the_rows_that_others_hold() {
    let counted = Counted::start("status, locked_until", "'processing', now() + '1 hour'").await;
    let before = counted.read().await;

    let recovered = counted.inbox.recover(&holder("a")).await.unwrap();

    assert!(matches!(recovered, Recovery::None));
    for lapsed in ["NULL", "now()"] {
        counted.make(&format!("locked_until = {lapsed}")).await;
        let recovered = counted.inbox.recover(&holder("a")).await.unwrap();
        assert!(matches!(recovered, Recovery::Run(_)));
    }
    let read = counted.read().await - before;
    assert!(read <= FEW, "{read} rows were read");
}

/// Deletes what is older than an hour, when there is nothing and when there is one row.
async fn purges_one_row(counted: Counted, old: &str) {
    let retention = Retention {
        processed: Duration::from_hours(1),
        dead_letter: Duration::from_hours(1),
    };
    let before = counted.read().await;

    let purged = counted.inbox.purge(CONSUMER, retention, 100).await;

    assert_eq!(purged.unwrap(), 0);
    counted.make(old).await;
    let purged = counted.inbox.purge(CONSUMER, retention, 100).await;
    assert_eq!(purged.unwrap(), 1);
    let read = counted.read().await - before;
    assert!(read <= FEW, "{read} rows were read");
}

#[tokio::test]
async fn a_purge_does_not_read_the_processed_rows_that_stay() {
    let counted = Counted::start("status, processed_at", "'processed', now()").await;
    purges_one_row(counted, "processed_at = now() - INTERVAL '2 hours'").await;
}

#[tokio::test]
async fn a_purge_does_not_read_the_dead_letters_that_stay() {
    let counted = Counted::start("status, last_error_at", "'dead_letter', now()").await;
    purges_one_row(counted, "last_error_at = now() - INTERVAL '2 hours'").await;
}

/// What lies behind is not read again for each page, also in a plan that serves for all of them.
#[tokio::test]
async fn looking_for_lost_turns_reads_each_aggregate_a_few_times() {
    let counted = Counted::start("status, position", "'pending', n").await;
    let before = counted.read().await;

    assert_eq!(counted.inbox.pass_turns(CONSUMER).await.unwrap(), 0);

    let read = counted.read().await - before;
    let crowd = i64::try_from(CROWD).unwrap();
    assert!(read <= 6 * crowd, "{read} rows were read");
}
