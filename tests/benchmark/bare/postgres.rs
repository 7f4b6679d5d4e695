//! From Redis to Postgres.

use std::str::FromStr as _;

use deadpool_redis::redis::Client;
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tokio::task::JoinSet;

use super::{
    HOLDER, LEASE, MAX_RETRIES,
    arrival::Arrivals,
    redis::{Entry, Reader, create_group},
};
use crate::{
    Result,
    event::{GROUP, OrderCreated},
    job::{Flood, Mode, Outcome, Work},
    service::RESERVE,
    usage::Usage,
};

/// How many loops run side by side, each with a connection of its own: as many as a consumer opens
/// unless told otherwise. Fewer leave a CPU idle while they wait for the disk.
const LANES: usize = 8;

/// As [`INSERT`], each row in its last state.
const INSERT_PROCESSED: &str = "
    INSERT INTO event_inbox (
        id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, status,
        max_retries, consumer, processed_at)
    SELECT id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload::jsonb,
        'processed', $8, $9, clock_timestamp()
    FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[],
        $7::text[])
        AS arrival(id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload)
    ON CONFLICT (consumer, event_id) DO NOTHING
    RETURNING id";

/// Each row leased to the one who inserts it.
pub(super) const INSERT: &str = "
    INSERT INTO event_inbox (
        id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, status,
        max_retries, consumer, locked_by, locked_until, lock_token)
    SELECT id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload::jsonb,
        'processing', $8, $9, $10, clock_timestamp() + $11 * INTERVAL '1 microsecond', 1
    FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[],
        $7::text[])
        AS arrival(id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload)
    ON CONFLICT (consumer, event_id) DO NOTHING
    RETURNING id";

/// By the primary key. Written with `status = 'processing'`, the planner takes the partial index of
/// that state instead, and reads every row there, with those that have left it since the last vacuum.
const SETTLE: &str = "
    UPDATE event_inbox SET status = 'processed', processed_at = clock_timestamp(),
        locked_by = NULL, locked_until = NULL
    WHERE id = ANY($1) AND lock_token = 1 AND locked_by = $2";

pub(super) async fn run(flood: &Flood, redis: &str, url: &str) -> Result<Outcome> {
    let client = Client::open(redis)?;
    // The plan is made when the table is small, and kept until it is analyzed: it would read all of it.
    let options = PgConnectOptions::from_str(url)?.options([("enable_seqscan", "off")]);
    let mut lanes = Vec::with_capacity(LANES);
    for lane in 0..LANES {
        lanes.push(Lane {
            reader: Reader::connect(&client, format!("bare-{lane}")).await?,
            database: PgConnection::connect_with(&options).await?,
            work: flood.work,
            mode: flood.mode,
        });
    }

    let begun = Usage::now()?;
    create_group(&client).await?;
    let mut running: JoinSet<Result<()>> = lanes.into_iter().map(Lane::run).collect();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Outcome::since(&begun)
}

/// One of the loops.
struct Lane {
    reader: Reader,
    database: PgConnection,
    work: Work,
    mode: Mode,
}

impl Lane {
    /// Runs until nothing waits in the stream.
    async fn run(mut self) -> Result<()> {
        loop {
            let entries = self.reader.read().await?;
            if entries.is_empty() {
                return Ok(());
            }
            let arrivals = Arrivals::read(&entries)?;
            match self.mode {
                Mode::Owned | Mode::Ordered => self.store_then_handle(&entries, &arrivals).await?,
                Mode::Inline => self.handle_and_store(&entries, &arrivals).await?,
            }
        }
    }

    async fn store_then_handle(
        &mut self,
        entries: &[Entry],
        arrivals: &Arrivals<'_>,
    ) -> Result<()> {
        let stored = insert(INSERT, arrivals)
            .bind(HOLDER)
            .bind(LEASE)
            .fetch_all(&mut self.database)
            .await?;
        all_are_new(&stored, entries)?;
        self.reader.acknowledge(entries).await?;
        match self.work {
            Work::Nothing => {
                arrivals.decode_all()?;
                self.settle(arrivals).await
            }
            Work::Insert => {
                self.database.execute("BEGIN; SAVEPOINT event").await?;
                for event in arrivals.decode() {
                    self.reserve(&event?).await?;
                    // One round trip for both, which is faster than two by a fifth.
                    let next = "RELEASE SAVEPOINT event; SAVEPOINT event";
                    self.database.execute(next).await?;
                }
                self.settle(arrivals).await?;
                self.database.execute("COMMIT").await?;
                Ok(())
            }
        }
    }

    async fn handle_and_store(&mut self, entries: &[Entry], arrivals: &Arrivals<'_>) -> Result<()> {
        // What is handled only after the commit would be lost with a process that dies between.
        self.database.execute("BEGIN").await?;
        let insert = insert(INSERT_PROCESSED, arrivals);
        all_are_new(&insert.fetch_all(&mut self.database).await?, entries)?;
        match self.work {
            Work::Nothing => arrivals.decode_all()?,
            Work::Insert => {
                for event in arrivals.decode() {
                    self.reserve(&event?).await?;
                }
            }
        }
        self.database.execute("COMMIT").await?;
        self.reader.acknowledge(entries).await
    }

    /// What the handler does that writes a row.
    async fn reserve(&mut self, event: &OrderCreated) -> Result<()> {
        sqlx::query(RESERVE)
            .bind(event.order_id.to_string())
            .bind(i64::from(event.quantity))
            .execute(&mut self.database)
            .await?;
        Ok(())
    }

    async fn settle(&mut self, arrivals: &Arrivals<'_>) -> Result<()> {
        settle(&mut self.database, arrivals).await
    }
}

pub(super) async fn settle(database: &mut PgConnection, arrivals: &Arrivals<'_>) -> Result<()> {
    let settle = sqlx::query(SETTLE).bind(&arrivals.ids).bind(HOLDER);
    settle.execute(database).await?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

pub(super) fn insert<'q>(sql: &'static str, arrivals: &'q Arrivals<'q>) -> Query<'q> {
    sqlx::query(sql)
        .bind(&arrivals.ids)
        .bind(&arrivals.event_ids)
        .bind(&arrivals.stream_ids)
        .bind(&arrivals.event_types)
        .bind(&arrivals.aggregate_ids)
        .bind(&arrivals.occurred_on)
        .bind(&arrivals.payloads)
        .bind(MAX_RETRIES)
        .bind(GROUP)
}

/// A loop by hand would leave duplicates out; here there are none.
fn all_are_new<R>(stored: &[R], entries: &[Entry]) -> Result<()> {
    if stored.len() == entries.len() {
        Ok(())
    } else {
        Err("an event was stored before".into())
    }
}
