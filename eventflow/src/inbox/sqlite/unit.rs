//! An open transaction on the writer's connection, with some events in it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{Connection as _, Sqlite, SqliteConnection, pool::PoolConnection};
use tokio::sync::Notify;

use super::{
    Statements,
    insert::Insert,
    row::lease,
    settle::{settle, settle_processed},
    turn,
};
use crate::{
    database::error::{code, infrastructure, refuses_values},
    inbox::{
        Arrival, Holder, Insertion, Lease, LossKind, Order, Settlement, Status, Unit, UnitLost,
        record::insertion, sealed::Sealed, transaction,
    },
    outbox::{Outgoing, SqliteOutbox},
};

/// How many of SQLite's instructions run between two looks at whether to stop.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 1_000;

/// An open transaction of a [`SqliteInbox`](super::SqliteInbox).
pub struct SqliteUnit {
    connection: PoolConnection<Sqlite>,
    statements: Arc<Statements>,
    guard: Arc<Guard>,
    order: Option<Order>,
    /// Told once this commits: a turn was passed on, so that a row is due.
    passed: Option<Arc<Notify>>,
    /// The savepoint of an attempt is set, and nothing was done since.
    is_at_savepoint: bool,
    /// Committed, and fit for the pool.
    finished: bool,
}

/// What the connection's hooks look at.
#[derive(Debug, Default)]
struct Guard {
    /// Only a commit of the engine's passes: a handler's own, and statements that would commit
    /// by themselves after the transaction has ended, are vetoed.
    may_commit: AtomicBool,
    /// The running statement is to stop.
    interrupted: AtomicBool,
}

impl SqliteUnit {
    /// Opens a transaction. To be run in a task that is not cut.
    pub(super) async fn begin(
        mut connection: PoolConnection<Sqlite>,
        statements: Arc<Statements>,
        order: Option<Order>,
    ) -> Result<Self, UnitLost> {
        let began = transaction::begin::<Sqlite>(&mut connection, "BEGIN IMMEDIATE").await;
        // From here on, whatever ends the unit early also ends the connection.
        let mut unit = Self {
            connection,
            statements,
            guard: Arc::default(),
            order,
            passed: None,
            is_at_savepoint: false,
            finished: false,
        };
        began.map_err(|error| lost("a unit of work could not begin", error))?;
        unit.set_hooks().await?;
        unit.run("SAVEPOINT eventflow_unit", "a unit of work could not begin")
            .await?;
        Ok(unit)
    }

    async fn set_hooks(&mut self) -> Result<(), UnitLost> {
        let (committing, running) = (Arc::clone(&self.guard), Arc::clone(&self.guard));
        let mut handle = self
            .connection
            .lock_handle()
            .await
            .map_err(|error| lost("a unit of work could not begin", error))?;
        handle.set_commit_hook(move || committing.may_commit.load(Ordering::Acquire));
        handle.set_progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, move || {
            !running.interrupted.load(Ordering::Acquire)
        });
        Ok(())
    }

    async fn run(&mut self, statement: &'static str, failed: &str) -> Result<(), UnitLost> {
        // Compiled once by each connection.
        match sqlx::query(statement).execute(&mut *self.connection).await {
            Ok(_) => Ok(()),
            Err(error) => Err(lost(failed, error)),
        }
    }

    /// Writes the next states; answers the claims that held.
    async fn next_states(
        &mut self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, UnitLost> {
        let failed = |error| lost("rows could not be settled", error);
        let statements = Arc::clone(&self.statements);
        if let Some(settle) = settle_processed(&statements, settlements).map_err(failed)? {
            self.savepoint().await?;
            let done = settle
                .execute(&mut *self.connection)
                .await
                .map_err(failed)?;
            if usize::try_from(done.rows_affected()) == Ok(settlements.len()) {
                return Ok(settlements.iter().map(|settled| settled.lease).collect());
            }
            self.rollback(false).await?;
        }
        let policy = self.order.as_ref().map(|order| order.policy);
        let settle = settle(statements.settle_by(policy), holder, settlements).map_err(failed)?;
        settle
            .fetch_all(&mut *self.connection)
            .await
            .and_then(|rows| rows.iter().map(lease).collect())
            .map_err(failed)
    }

    /// Waits for the statement that a dropped call may have left behind, and stops it.
    async fn stop_statement(&mut self) -> Result<(), UnitLost> {
        self.guard.interrupted.store(true, Ordering::Release);
        // Answered by the connection's thread when it is done with what came before.
        let answer = self.connection.ping().await;
        self.guard.interrupted.store(false, Ordering::Release);
        answer.map_err(|error| lost("an attempt could not be stopped", error))
    }
}

impl Sealed for SqliteUnit {}

impl Unit for SqliteUnit {
    type Connection = SqliteConnection;
    type Outbox = SqliteOutbox;

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// A handler that began a transaction and forgot it leaves sqlx's count too high; one whose
    /// `begin` was cut, too low.
    fn check(&self) -> Result<(), UnitLost> {
        if transaction::is_level::<Sqlite>(&self.connection) {
            Ok(())
        } else {
            Err(UnitLost::new(
                LossKind::Handler,
                "a handler left a transaction of its own open",
            ))
        }
    }

    async fn savepoint(&mut self) -> Result<(), UnitLost> {
        if !std::mem::take(&mut self.is_at_savepoint) {
            self.run("SAVEPOINT eventflow_attempt", "an attempt could not begin")
                .await?;
        }
        Ok(())
    }

    /// Sets the next attempt's savepoint with it: each statement takes two threads' turns.
    async fn release(&mut self) -> Result<bool, UnitLost> {
        self.check()?;
        self.run(
            "RELEASE SAVEPOINT eventflow_attempt; SAVEPOINT eventflow_attempt",
            "an attempt's transaction is gone; a handler must not end it",
        )
        .await?;
        self.is_at_savepoint = true;
        Ok(true)
    }

    async fn rollback(&mut self, interrupt: bool) -> Result<(), UnitLost> {
        if interrupt {
            self.stop_statement().await?;
        }
        self.check()?;
        self.run(
            "ROLLBACK TO SAVEPOINT eventflow_attempt",
            "an attempt's transaction is gone: a handler ended it, or a statement that was stopped did",
        )
        .await
    }

    async fn insert(
        &mut self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> Result<Insertion, UnitLost> {
        let Self {
            connection,
            statements,
            ..
        } = self;
        let insert = Insert {
            statements,
            holder,
            run_as: Status::Processed,
        };
        let entered = insert.within(connection, &arrivals).await;
        entered
            .map(|entered| insertion(arrivals, &entered))
            .map_err(|error| lost("events could not be stored", error))
    }

    async fn settle(
        &mut self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, UnitLost> {
        let held = self.next_states(holder, settlements).await?;
        if let Some(Order { policy, passed }) = self.order.clone() {
            let (connection, consumer) = (&mut self.connection, &holder.consumer);
            let pass = turn::pass(connection, &self.statements, policy, consumer, settlements);
            let has_passed = pass.await;
            if has_passed.map_err(|error| lost("turns could not be passed on", error))? {
                self.passed = Some(passed);
            }
        }
        Ok(held)
    }

    async fn amend(&mut self, holder: &Holder, settlements: &[Settlement]) -> Result<(), UnitLost> {
        let failed = |error| lost("rows could not be amended", error);
        let amend = settle(&self.statements.amend, holder, settlements).map_err(failed)?;
        let amended = amend.fetch_all(&mut *self.connection).await;
        if amended.map_err(failed)?.len() == settlements.len() {
            Ok(())
        } else {
            Err(UnitLost::row_gone())
        }
    }

    async fn publish(
        &mut self,
        outbox: &SqliteOutbox,
        outgoing: &[Outgoing],
    ) -> Result<(), UnitLost> {
        let written = outbox.writer().write(&mut self.connection, outgoing).await;
        written.map_err(unpublished)
    }

    async fn commit(mut self) -> Result<(), UnitLost> {
        self.check()?;
        self.run(
            "RELEASE SAVEPOINT eventflow_unit",
            "the transaction of a unit of work is gone; a handler must not end it",
        )
        .await?;
        self.guard.may_commit.store(true, Ordering::Release);
        transaction::commit::<Sqlite>(&mut self.connection)
            .await
            .map_err(commit_failed)?;
        // Committed: from here on the connection is as good as any, once it has no hooks.
        if let Ok(mut handle) = self.connection.lock_handle().await {
            handle.remove_commit_hook();
            handle.remove_progress_handler();
            drop(handle);
            self.finished = true;
        }
        if let Some(passed) = &self.passed {
            passed.notify_one();
        }
        Ok(())
    }
}

impl Drop for SqliteUnit {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.close_on_drop();
        }
    }
}

/// What a unit says that lost its transaction by `error`.
///
/// Our own statements are constant, so any other error than the infrastructure's means that the
/// transaction or the savepoint they name is not there.
pub(super) fn lost(message: &str, error: sqlx::Error) -> UnitLost {
    let kind = infrastructure(&error).unwrap_or(LossKind::Handler);
    UnitLost::new(kind, message).with_source(error)
}

fn commit_failed(error: sqlx::Error) -> UnitLost {
    let kind = match code(&error) {
        // Full disk or I/O error: SQLite may or may not have reached the end of the commit.
        Some(_) if infrastructure(&error) == Some(LossKind::Infrastructure) => {
            LossKind::CommitUnknown
        }
        Some(_) => infrastructure(&error).unwrap_or(LossKind::Handler),
        None => LossKind::CommitUnknown,
    };
    UnitLost::new(kind, "the commit of a unit of work failed").with_source(error)
}

impl std::fmt::Debug for SqliteUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteUnit")
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

/// What a unit says that could not write down what its handlers have published. Only of values that the
/// database refuses is an event to blame.
fn unpublished(error: sqlx::Error) -> UnitLost {
    let kind = if refuses_values(&error) {
        LossKind::Handler
    } else {
        infrastructure(&error).unwrap_or(LossKind::Infrastructure)
    };
    UnitLost::new(kind, "what handlers published could not be written down").with_source(error)
}
