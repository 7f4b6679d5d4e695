//! From a stream in memory to SQLite.

use std::{path::Path, sync::Arc};

use eventflow::{Source as _, stream::MemoryStream};
use serde::Serialize;
use sqlx::{
    Connection as _, Executor as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinSet,
};
use uuid::Uuid;

use super::{HOLDER, LEASE, MAX_RETRIES, arrival::Arrivals, memory};
use crate::{
    Result,
    event::{self, GROUP, OrderCreated, STREAM},
    job::{Flood, Outcome, Until, Work},
    service::RESERVE,
    usage::Usage,
};

/// How many loops take turns with the one connection that writes: while one waits for the disk,
/// others read and decode.
const LANES: usize = 2;

/// A batch is one parameter: as many parameters as it has values take longer to bind than SQLite
/// takes to read the JSON.
const INSERT: &str = "
    INSERT INTO event_inbox (
        id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, status,
        max_retries, consumer, received_at, locked_by, locked_until, lock_token)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6, 'processing', $2, $3, CAST(unixepoch('subsec') * 1000000 AS INTEGER), $4,
        CAST(unixepoch('subsec') * 1000000 AS INTEGER) + $5, 1
    FROM json_each($1) WHERE TRUE
    ON CONFLICT (consumer, event_id) DO NOTHING
    RETURNING id";

const SETTLE: &str = "
    UPDATE event_inbox SET status = 'processed',
        processed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER),
        locked_by = NULL, locked_until = NULL
    WHERE id IN (SELECT value FROM json_each($1)) AND lock_token = 1 AND status = 'processing'";

pub(super) async fn run(flood: &Flood, file: &Path) -> Result<Outcome> {
    let stream = MemoryStream::new(STREAM).group(GROUP);
    stream.open().await?;
    if let Until::Processed(events) = flood.until {
        event::fill(&stream, events).await?;
    }
    // As the inbox opens it.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let writer = SqliteConnection::connect_with(&options).await?;
    let lane = Lane {
        stream,
        writer: Arc::new(Mutex::new(writer)),
        work: flood.work,
    };

    let begun = Usage::now()?;
    let lanes = std::iter::repeat_n(lane, LANES);
    let mut running: JoinSet<Result<()>> = lanes.map(Lane::run).collect();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Outcome::since(&begun)
}

/// One of the loops.
#[derive(Clone)]
struct Lane {
    stream: MemoryStream,
    writer: Arc<Mutex<SqliteConnection>>,
    work: Work,
}

impl Lane {
    /// Runs until nothing waits in the stream.
    async fn run(self) -> Result<()> {
        loop {
            let (entries, names) = memory::read(&self.stream).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let arrivals = Arrivals::read(&entries)?;
            let rows = serde_json::to_string(&rows(&arrivals))?;
            let ids = serde_json::to_string(&arrivals.ids)?;
            let stored = sqlx::query(INSERT)
                .bind(rows)
                .bind(MAX_RETRIES)
                .bind(GROUP)
                .bind(HOLDER)
                .bind(LEASE)
                .fetch_all(&mut *self.writer.lock().await)
                .await?;
            if stored.len() < entries.len() {
                return Err("an event was stored before".into());
            }
            self.stream.acknowledge(&names).await?;
            match self.work {
                Work::Nothing => {
                    arrivals.decode_all()?;
                    let mut writer = self.writer.lock().await;
                    settle(&mut writer, ids).await?;
                }
                Work::Insert => reserve_all(self.writer.lock().await, &arrivals, ids).await?,
            }
        }
    }
}

/// Runs the handler that writes a row on each event, and settles them.
async fn reserve_all(
    mut writer: MutexGuard<'_, SqliteConnection>,
    arrivals: &Arrivals<'_>,
    ids: String,
) -> Result<()> {
    writer.execute("BEGIN IMMEDIATE; SAVEPOINT event").await?;
    for event in arrivals.decode() {
        reserve(&mut writer, &event?).await?;
        let next = "RELEASE SAVEPOINT event; SAVEPOINT event";
        writer.execute(next).await?;
    }
    settle(&mut writer, ids).await?;
    writer.execute("COMMIT").await?;
    Ok(())
}

async fn reserve(writer: &mut SqliteConnection, event: &OrderCreated) -> Result<()> {
    sqlx::query(RESERVE)
        .bind(event.order_id.to_string())
        .bind(i64::from(event.quantity))
        .execute(writer)
        .await?;
    Ok(())
}

async fn settle(writer: &mut SqliteConnection, ids: String) -> Result<()> {
    sqlx::query(SETTLE).bind(ids).execute(writer).await?;
    Ok(())
}

/// Id, event id, entry, type, aggregate, time and payload.
#[derive(Serialize)]
struct Row<'a>(Uuid, &'a str, &'a str, &'a str, Uuid, i64, &'a str);

fn rows<'a>(arrivals: &'a Arrivals<'a>) -> Vec<Row<'a>> {
    let Arrivals {
        ids,
        event_ids,
        stream_ids,
        event_types,
        aggregate_ids,
        occurred_on,
        payloads,
    } = arrivals;
    let names = ids.iter().zip(event_ids).zip(stream_ids);
    let events = event_types.iter().zip(aggregate_ids).zip(occurred_on);
    let rows = names.zip(events).zip(payloads);
    rows.map(
        |((((id, event_id), stream_id), ((event_type, aggregate_id), occurred_on)), payload)| {
            let occurred_on = occurred_on.timestamp_micros();
            Row(
                *id,
                event_id,
                stream_id,
                event_type,
                *aggregate_id,
                occurred_on,
                payload,
            )
        },
    )
    .collect()
}
