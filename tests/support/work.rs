//! A small service on any database: its handler leaves one row per run that was committed, publishes one
//! event with it, and does what its event says, also what no handler should.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eventflow::{outbox::PgOutbox, prelude::*};
use sqlx::{AssertSqlSafe, PgPool};

pub use self::postgres::{Work, do_work};

/// The table of the handlers' effects. It takes any number of rows per event.
pub const CREATE_EFFECTS: &str =
    "CREATE TABLE effects (event_id TEXT NOT NULL, done_by TEXT NOT NULL, causation_id TEXT)";

const WRITE_EFFECT: &str =
    "INSERT INTO effects (event_id, done_by, causation_id) VALUES ($1, $2, $3)";

/// Asks for some work.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct WorkRequested {
    #[event(aggregate_id)]
    pub work_id: Uuid,
    /// How long the work takes, in milliseconds.
    #[serde(default)]
    pub takes_ms: u32,
    /// How the work ends.
    #[serde(default)]
    pub end: End,
}

/// How work ends, once its effect is written and its time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It is done.
    #[default]
    Done,
    /// It fails in every run.
    Fail,
    /// It fails in the first run.
    FailOnce,
    /// It cannot be done: no retry helps.
    Refuse,
    /// The handler panics.
    Panic,
    /// The process aborts.
    Abort,
    /// The handler never answers.
    Hang,
    /// It is done, but the handler blocks its thread for the work's time instead of waiting.
    Block,
}

impl WorkRequested {
    /// Work that takes this many milliseconds.
    pub fn taking(takes_ms: u32) -> Self {
        Self {
            work_id: Uuid::now_v7(),
            takes_ms,
            end: End::Done,
        }
    }

    /// Work that ends like this, at once.
    pub fn ending(end: End) -> Self {
        Self {
            end,
            ..Self::taking(0)
        }
    }

    async fn run(&self, attempt: u32) -> Result<(), Failure> {
        let time = Duration::from_millis(self.takes_ms.into());
        if self.end == End::Block {
            block(time);
            return Ok(());
        }
        tokio::time::sleep(time).await;
        match self.end {
            End::Done | End::Block => Ok(()),
            End::FailOnce if attempt > 1 => Ok(()),
            End::Fail | End::FailOnce => Err(Failure::retry("the work failed")),
            End::Refuse => Err(Failure::dead_letter("the work cannot be done")),
            End::Panic => panic!("the work panicked"),
            End::Abort => std::process::abort(),
            End::Hang => std::future::pending().await,
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "what a handler must not do is the subject"
)]
fn block(time: Duration) {
    std::thread::sleep(time);
}

/// Asks to take work back: an event that only the next version of the service knows.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct WorkCancelled {
    #[event(aggregate_id)]
    pub work_id: Uuid,
}

/// Says that there is nothing more to do.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct WorkEnded {
    #[event(aggregate_id)]
    pub work_id: Uuid,
}

/// What the stream `work` carries.
#[derive(Debug, EventSet)]
pub enum WorkEvents {
    Requested(WorkRequested),
}

/// What the stream `work` carries from the next version on.
#[derive(Debug, EventSet)]
pub enum NextWorkEvents {
    Requested(WorkRequested),
    Cancelled(WorkCancelled),
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

macro_rules! work_on {
    ($database:ident, $Connection:ty $(, $replay_safe:ident)?) => {
        pub mod $database {
            use super::*;

            #[handler($($replay_safe)?)]
            pub async fn do_work(
                event: WorkRequested,
                State(state): State<WorkState>,
                tx: &mut $Connection,
                outbox: &mut Outbox,
                meta: &Metadata,
            ) -> Result<(), Failure> {
                write(&state, tx, meta).await?;
                outbox.publish(&WorkEnded {
                    work_id: event.work_id,
                })?;
                event.run(meta.attempt).await
            }

            #[handler($($replay_safe)?)]
            pub async fn cancel_work(
                event: WorkCancelled,
                State(state): State<WorkState>,
                tx: &mut $Connection,
                outbox: &mut Outbox,
                meta: &Metadata,
            ) -> Result<(), Failure> {
                write(&state, tx, meta).await?;
                outbox.publish(&WorkEnded {
                    work_id: event.work_id,
                })?;
                Ok(())
            }

            async fn write(
                state: &WorkState,
                tx: &mut $Connection,
                meta: &Metadata,
            ) -> Result<(), Failure> {
                state.runs.0.fetch_add(1, Ordering::SeqCst);
                tracing::info!(event_id = meta.event_id, "work begins");
                sqlx::query(WRITE_EFFECT)
                    .bind(&meta.event_id)
                    .bind(&state.name)
                    .bind(&meta.causation_id)
                    .execute(tx)
                    .await?;
                Ok(())
            }

            #[router(events = WorkEvents, handlers(do_work))]
            #[derive(Debug)]
            pub struct Work;

            /// The next version of the service.
            #[router(events = NextWorkEvents, handlers(do_work, cancel_work))]
            #[derive(Debug)]
            pub struct NextWork;
        }
    };
}

work_on!(postgres, PgConnection);
work_on!(postgres_replay_safe, PgConnection, replay_safe);
work_on!(sqlite, SqliteConnection);
work_on!(sqlite_replay_safe, SqliteConnection, replay_safe);

/// Reads the events whose effects and published events are not as many.
pub const UNEQUAL: &str = "
    WITH written AS (SELECT event_id, COUNT(*) AS many FROM effects GROUP BY event_id),
    published AS (SELECT causation_id, COUNT(*) AS many FROM event_outbox GROUP BY causation_id)
    SELECT COALESCE(event_id, causation_id)
    FROM written FULL JOIN published ON event_id = causation_id
    WHERE COALESCE(written.many, 0) <> COALESCE(published.many, 0)";

/// Creates the tables of the handlers' effects: what they write, and what they publish.
pub async fn create_effects(pool: &PgPool) {
    sqlx::query(CREATE_EFFECTS).execute(pool).await.unwrap();
    let outbox = AssertSqlSafe(PgOutbox::schema_sql());
    sqlx::raw_sql(outbox).execute(pool).await.unwrap();
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
