//! From a stream in memory to SQLite.

use std::{path::Path, sync::Arc};

use eventflow::{Source as _, stream::MemoryStream};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinSet,
};

use super::{BATCH, HOLDER, LEASE, MAX_RETRIES, arrival::Arrivals, memory};
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

/// Has a row of values for each entry of a batch. They have no names, by which the driver would look
/// for each among all of them.
const INSERT: &str = "
    INSERT INTO event_inbox (
        id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, status,
        max_retries, consumer, received_at, locked_by, locked_until, lock_token)
    SELECT column1, column2, column3, column4, column5, column6, column7, 'processing',
        {max_retries}, {consumer}, CAST(unixepoch('subsec') * 1000000 AS INTEGER), {holder},
        CAST(unixepoch('subsec') * 1000000 AS INTEGER) + {lease}, 1
    FROM (VALUES {rows}) WHERE TRUE
    ON CONFLICT (consumer, event_id) DO NOTHING";

/// How many values a row has.
const VALUES: usize = 7;

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
        insert: insert(BATCH),
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
    /// The statement of a whole batch.
    insert: Arc<str>,
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
            let values = values(&arrivals)?;
            let ids = serde_json::to_string(&arrivals.ids)?;
            let insert = match entries.len() {
                BATCH => Arc::clone(&self.insert),
                rows => insert(rows),
            };
            let stored = sqlx::query_with(AssertSqlSafe(insert), values)
                .execute(&mut *self.writer.lock().await)
                .await?;
            if usize::try_from(stored.rows_affected())? < entries.len() {
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
    execute(&mut writer, "BEGIN IMMEDIATE; SAVEPOINT event").await?;
    for event in arrivals.decode() {
        reserve(&mut writer, &event?).await?;
        let next = "RELEASE SAVEPOINT event; SAVEPOINT event";
        execute(&mut writer, next).await?;
    }
    settle(&mut writer, ids).await?;
    execute(&mut writer, "COMMIT").await
}

/// Runs a statement that is compiled once.
async fn execute(writer: &mut SqliteConnection, statement: &'static str) -> Result<()> {
    sqlx::query(statement).execute(writer).await?;
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

/// The statement that inserts so many rows.
fn insert(rows: usize) -> Arc<str> {
    let row = format!("({})", ["?"; VALUES].join(", "));
    let shared = rows * VALUES;
    let insert = INSERT
        .replace("{rows}", &vec![row; rows].join(", "))
        .replace("{max_retries}", &format!("${}", shared + 1))
        .replace("{consumer}", &format!("${}", shared + 2))
        .replace("{holder}", &format!("${}", shared + 3))
        .replace("{lease}", &format!("${}", shared + 4));
    Arc::from(insert)
}

/// The values of all rows, and those that they share.
fn values(arrivals: &Arrivals<'_>) -> Result<SqliteArguments> {
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
    let mut values = SqliteArguments::default();
    values.reserve(ids.len() * VALUES + 4, 0);
    for ((((id, event_id), stream_id), ((event_type, aggregate_id), occurred_on)), payload) in
        names.zip(events).zip(payloads)
    {
        values.add(id.hyphenated())?;
        values.add(*event_id)?;
        values.add(*stream_id)?;
        values.add(*event_type)?;
        values.add(aggregate_id.hyphenated())?;
        values.add(occurred_on.timestamp_micros())?;
        values.add(*payload)?;
    }
    values.add(MAX_RETRIES)?;
    values.add(GROUP)?;
    values.add(HOLDER)?;
    values.add(LEASE)?;
    Ok(values)
}
