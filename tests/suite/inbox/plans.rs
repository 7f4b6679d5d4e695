//! What was planned while the table was small, and is kept by a connection, reads little of a large one.

use std::{sync::Arc, time::Duration};

use eventflow::{
    inbox::{
        Admission, Arrival, Due, Order, OrderPolicy, OrderedInbox as _, ReaderLease, Recovery,
        Retention, Row, Settlement, Status, Unit,
    },
    outbox::OutboxTable as _,
    prelude::*,
};

use eventflow_tests::{eventually, postgres::PostgresServer};
use sqlx::{AssertSqlSafe, Executor, PgPool};

use super::{CONSUMER, DEADLINE, arrival, costs::Counted, dying, holder, settlement};

/// More than as often as a statement is planned anew.
const ROUNDS: usize = 8;

/// What statements may look at that find two or three rows.
const FEW: i64 = 60;

/// Every statement of a consumer, on one connection; what an operator asks reads all dead letters at most.
struct Rounds {
    counted: Counted,
    in_order: PgInbox,
    reader: ReaderLease,
    done: usize,
    /// What each step has read in the last round.
    read: Vec<(&'static str, i64)>,
}

impl Rounds {
    async fn start() -> Self {
        let counted = Counted::open().await;
        let in_order = counted.inbox.in_order(Order {
            policy: OrderPolicy::Park,
            passed: Arc::default(),
        });
        let streams = [Arc::from("orders")];
        let reader = in_order.acquire_reading(&holder("a"), &streams).await;
        Self {
            counted,
            in_order,
            reader: reader.unwrap().unwrap(),
            done: 0,
            read: Vec::new(),
        }
    }

    /// New events: two of an aggregate, and one of another.
    fn arrivals(&self, name: &str) -> Vec<Arrival> {
        let aggregates = [1, 1, 2].into_iter().enumerate();
        aggregates
            .map(|(number, aggregate)| {
                let arrival = arrival(&format!("{name} {} {number}", self.done));
                let aggregate = Uuid::from_u128(aggregate);
                let envelope = arrival.envelope.with_aggregate_id(aggregate);
                Arrival {
                    envelope,
                    ..arrival
                }
            })
            .collect()
    }

    /// Takes a step, and notes what it has read.
    async fn step<T>(&mut self, name: &'static str, step: impl AsyncFnOnce(&Self) -> T) -> T {
        let before = self.counted.read().await;
        let answer = step(self).await;
        let read = self.counted.read().await - before;
        self.read.push((name, read));
        answer
    }

    async fn round(&mut self) {
        self.read.clear();
        self.without_order().await;
        self.beside().await;
        self.with_order().await;
        self.done += 1;
    }

    async fn without_order(&mut self) {
        let a = holder("a");
        let rows = self
            .step("insert", async |rounds| {
                let inserting = rounds.counted.inbox.insert(&a, rounds.arrivals("run"));
                inserting.await.unwrap().rows
            })
            .await;
        let leases: Vec<_> = rows.iter().map(|row| row.lease).collect();
        self.step("extend", async |rounds| {
            let extending = rounds.counted.inbox.extend(&a, leases.clone());
            assert_eq!(extending.await.unwrap(), leases);
        })
        .await;
        self.step("release", async |rounds| {
            let releasing = rounds.counted.inbox.release(leases.clone(), Duration::ZERO);
            assert_eq!(releasing.await.unwrap(), 3);
        })
        .await;
        self.step("count", async |rounds| {
            let inbox = &rounds.counted.inbox;
            assert_eq!(inbox.backlog(CONSUMER, 10).await.unwrap(), 3);
            assert!(inbox.next_due(CONSUMER).await.unwrap().is_some());
            let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
            assert_eq!(inbox.count_stored(&ids).await.unwrap(), 3);
        })
        .await;
        let rows = self.claim("claim", 3).await;
        let mixed = [
            settlement(rows[0].lease, Status::Processed),
            settlement(rows[1].lease, Status::Failed),
            settlement(rows[2].lease, Status::DeadLetter),
        ];
        self.settle("settle", &mixed).await;
        let ids = [rows[2].lease.id];
        let requeuing = self.counted.inbox.requeue(CONSUMER, &ids);
        assert_eq!(requeuing.await.unwrap(), 1);
        let rows = self.claim("claim again", 2).await;
        self.settle("settle all processed", &processed(&rows)).await;
    }

    /// What is done beside the handlers, and what a unit of work inserts.
    async fn beside(&mut self) {
        let a = holder("a");
        self.step("recover", async |rounds| {
            let mut arrivals = rounds.arrivals("lapse");
            arrivals.truncate(1);
            let inbox = &rounds.counted.inbox;
            inbox.insert(&dying("b"), arrivals).await.unwrap();
            assert!(inbox.next_lapse(CONSUMER).await.unwrap().is_some());
            let Ok(Recovery::Run(row)) = inbox.recover(&a).await else {
                panic!("nothing was recovered");
            };
            inbox.settle(&a, &processed(&[*row])).await.unwrap();
        })
        .await;
        self.step("purge", async |rounds| {
            let retention = Retention {
                processed: Duration::from_hours(1),
                dead_letter: Duration::from_hours(1),
            };
            let purging = rounds.counted.inbox.purge(CONSUMER, retention, 10);
            assert_eq!(purging.await.unwrap(), 0);
        })
        .await;
        self.step("unit", async |rounds| {
            let mut unit = rounds.counted.inbox.begin().await.unwrap();
            let inserted = unit.insert(&a, rounds.arrivals("unit")).await.unwrap();
            let failed = settlement(inserted.rows[0].lease, Status::DeadLetter);
            unit.amend(&a, &[failed]).await.unwrap();
            unit.commit().await.unwrap();
        })
        .await;
    }

    async fn with_order(&mut self) {
        let a = holder("a");
        self.step("store in order", async |rounds| {
            let mut arrivals = rounds.arrivals("order");
            for arrival in &mut arrivals {
                arrival.admission = Admission::Wait;
            }
            let storing = rounds
                .in_order
                .insert_in_order(&a, &rounds.reader, arrivals);
            assert!(storing.await.unwrap().is_some());
        })
        .await;
        let rows = self.claim("claim in order", 2).await;
        self.step("settle in order", async |rounds| {
            let settled = rounds.in_order.settle(&a, &processed(&rows)).await;
            assert_eq!(settled.unwrap().len(), 2);
        })
        .await;
        let rows = self.claim("claim the next", 1).await;
        let dead = settlement(rows[0].lease, Status::DeadLetter);
        self.step("settle a dead letter in order", async |rounds| {
            let mut unit = rounds.in_order.begin().await.unwrap();
            let settled = unit.settle(&a, &[dead]).await.unwrap();
            assert_eq!(settled.len(), 1);
            unit.commit().await.unwrap();
        })
        .await;
        let ids = [rows[0].lease.id];
        let discarding = self.in_order.discard(CONSUMER, &ids);
        assert_eq!(discarding.await.unwrap(), 1);
    }

    async fn claim(&mut self, name: &'static str, rows: usize) -> Vec<Row> {
        let claimed = self
            .step(name, async |rounds| {
                let inbox = &rounds.counted.inbox;
                inbox.claim(&holder("a"), Due::Now, 10).await.unwrap()
            })
            .await;
        assert_eq!(claimed.len(), rows, "{name}");
        claimed
    }

    async fn settle(&mut self, name: &'static str, settlements: &[Settlement]) {
        self.step(name, async |rounds| {
            let inbox = &rounds.counted.inbox;
            let settled = inbox.settle(&holder("a"), settlements).await.unwrap();
            assert_eq!(settled.len(), settlements.len());
        })
        .await;
    }
}

fn processed(rows: &[Row]) -> Vec<Settlement> {
    rows.iter()
        .map(|row| settlement(row.lease, Status::Processed))
        .collect()
}

#[tokio::test]
async fn what_was_planned_for_a_small_table_reads_little_of_a_large_one() {
    let mut rounds = Rounds::start().await;
    for _ in 0..ROUNDS {
        rounds.round().await;
    }

    for (name, columns, values) in [
        ("done", "status, processed_at", "'processed', now()"),
        (
            "later",
            "status, next_retry_at",
            "'failed', now() + '1 hour'",
        ),
        (
            "held",
            "status, locked_until",
            "'processing', now() + '1 hour'",
        ),
        (
            "dead",
            "status, last_error_at, position",
            "'dead_letter', now(), n",
        ),
        (
            "turn",
            "next_retry_at, position",
            "TIMESTAMPTZ '9999-12-31 00:00:00+00', n",
        ),
    ] {
        rounds.counted.crowd_of(name, columns, values).await;
    }
    rounds.round().await;

    let mut much = rounds.read.clone();
    much.retain(|(_, read)| *read > FEW);
    assert!(much.is_empty(), "{much:?} of {:?}", rounds.read);
}

/// Statistics of a small table are what plans are made of that read all of it.
#[tokio::test]
async fn autovacuum_leaves_small_tables_alone() {
    const ROWS: &str = "FROM generate_series(1, 200) AS n";

    let server = PostgresServer::start_with(&["autovacuum_naptime=1s"]).await;
    let url = server.create_database().await;
    let inbox = PgInbox::connect(&url).await.unwrap();
    inbox.migrate().await.unwrap();
    inbox.outbox().migrate().await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    for sql in [
        "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id, occurred_on,
            payload, consumer)
         SELECT n, '', 'OrderPaid', gen_random_uuid(), now(), '{}', 'billing' {rows}",
        "UPDATE event_inbox SET status = 'processed', processed_at = now()",
        "INSERT INTO event_outbox (event_id, event_type, aggregate_id, occurred_on, payload,
            payload_bytes)
         SELECT n, 'OrderPaid', gen_random_uuid(), now(), '{}', 2 {rows}",
        "UPDATE event_outbox SET status = 'published', published_at = now()",
        "CREATE TABLE other AS SELECT n {rows}",
        "UPDATE other SET n = n",
    ] {
        let sql = AssertSqlSafe(sql.replace("{rows}", ROWS));
        pool.execute(sql).await.unwrap();
    }

    // Twice: whoever did it has been at all tables by then.
    for _ in 0..2 {
        let seen = "SELECT autovacuum_count + autoanalyze_count FROM pg_stat_user_tables
            WHERE relname = 'other'";
        let count = async || sqlx::query_scalar::<_, i64>(seen).fetch_one(&pool).await;
        let before = count().await.unwrap();
        pool.execute("UPDATE other SET n = n").await.unwrap();
        eventually(DEADLINE, async || count().await.unwrap() > before).await;
    }
    let known = "SELECT relname FROM pg_class
        WHERE relname IN ('event_inbox', 'event_outbox') AND reltuples >= 0";
    let known: Vec<String> = sqlx::query_scalar(known).fetch_all(&pool).await.unwrap();
    assert_eq!(known, [""; 0]);
}
