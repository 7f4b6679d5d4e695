//! A small service on Postgres: its handler leaves one row per run that was committed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use eventflow::prelude::*;
use sqlx::PgPool;

/// Asks for some work.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct WorkRequested {
    #[event(aggregate_id)]
    pub work_id: Uuid,
    /// How long the work takes, in milliseconds.
    #[serde(default)]
    pub takes_ms: u32,
    /// The work fails always.
    #[serde(default)]
    pub fails: bool,
}

impl WorkRequested {
    /// Work that takes this many milliseconds.
    pub fn taking(takes_ms: u32) -> Self {
        Self {
            work_id: Uuid::now_v7(),
            takes_ms,
            fails: false,
        }
    }
}

#[derive(Debug, EventSet)]
pub enum WorkEvents {
    Requested(WorkRequested),
}

/// How often handlers ran, committed or not.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<AtomicU64>);

impl Runs {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Who writes the effects.
#[derive(Debug, Clone, Default)]
pub struct WorkState {
    pub name: String,
    pub runs: Runs,
}

#[handler]
pub async fn do_work(
    event: WorkRequested,
    State(state): State<WorkState>,
    tx: &mut PgConnection,
    meta: &Metadata,
) -> Result<(), Failure> {
    state.runs.0.fetch_add(1, Ordering::SeqCst);
    sqlx::query("INSERT INTO effects (event_id, done_by, causation_id) VALUES ($1, $2, $3)")
        .bind(&meta.event_id)
        .bind(&state.name)
        .bind(&meta.causation_id)
        .execute(&mut *tx)
        .await?;
    sqlx::query("SELECT pg_sleep($1)")
        .bind(f64::from(event.takes_ms) / 1e3)
        .execute(&mut *tx)
        .await?;
    if event.fails {
        return Err(Failure::retry("the work failed"));
    }
    Ok(())
}

#[router(events = WorkEvents, handlers(do_work))]
#[derive(Debug)]
pub struct Work;

/// Creates the table of the handler's effects. It takes any number of rows per event.
pub async fn create_effects(pool: &PgPool) {
    sqlx::query(
        "CREATE TABLE effects (event_id TEXT NOT NULL, done_by TEXT NOT NULL, causation_id TEXT)",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// Committed effects, and how many events have them.
pub async fn effects(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as("SELECT count(*), count(DISTINCT event_id) FROM effects")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// How many rows of the inbox are in this state.
pub async fn rows_in(pool: &PgPool, status: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM event_inbox WHERE status = $1")
        .bind(status)
        .fetch_one(pool)
        .await
        .unwrap()
}
