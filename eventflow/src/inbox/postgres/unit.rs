//! An open transaction on a connection of the pool, with some events in it.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::sync::Notify;

use super::{
    Settings,
    insert::{Insert, as_stored},
    row::settled,
    settle,
    sql::Statements,
    turn,
};
use crate::{
    database::{
        error::{code, infrastructure, refuses_values},
        postgres::connection::answered,
    },
    inbox::{
        Arrival, Holder, Insertion, Lease, LossKind, Order, Settlement, Status, Unit, UnitLost,
        record::insertion, sealed::Sealed, transaction,
    },
    outbox::{Outgoing, PgOutbox},
};

/// How long it may take to stop a statement. One that goes on ends by its own timeout.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// What keeps a handler from ending the transaction that it is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing: no handler is lent it.
    None,
    /// The cursor is read when the transaction commits, and its query fails then: so a handler's own
    /// `COMMIT` fails and stores nothing.
    Cursor,
    /// As well, outside of the unit's transaction the connection takes no writes, so that statements of a
    /// handler that has ended the transaction store nothing by themselves.
    CursorAndSession,
}

impl Guard {
    /// Opens the transaction, in one round trip. `random()` keeps the planner from failing at once.
    const fn begin(self) -> &'static str {
        match self {
            Self::None => "BEGIN READ WRITE",
            Self::Cursor => {
                "
    BEGIN READ WRITE;
    SAVEPOINT eventflow_unit;
    DECLARE eventflow_unit CURSOR WITH HOLD FOR SELECT
        ('a handler must not commit the transaction that it is given ' || random())::integer"
            }
            Self::CursorAndSession => {
                "
    BEGIN;
    SET default_transaction_read_only = on;
    COMMIT;
    BEGIN READ WRITE;
    SAVEPOINT eventflow_unit;
    DECLARE eventflow_unit CURSOR WITH HOLD FOR SELECT
        ('a handler must not commit the transaction that it is given ' || random())::integer"
            }
        }
    }

    /// Fails if a handler has ended the transaction, or swallowed an error that has aborted it: its commit would
    /// then answer `Ok` and store nothing. Where no handler was lent it, only our own statements have run, and
    /// each error of theirs loses the unit.
    const fn before_commit(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Cursor => Some("RELEASE SAVEPOINT eventflow_unit; CLOSE eventflow_unit"),
            Self::CursorAndSession => Some(
                "
    RELEASE SAVEPOINT eventflow_unit;
    CLOSE eventflow_unit;
    SET default_transaction_read_only = off",
            ),
        }
    }
}

/// An open transaction of a [`PgInbox`](super::PgInbox).
pub struct PgUnit {
    connection: PoolConnection<Postgres>,
    statements: Arc<Statements>,
    /// Knows how a connection is opened that stops a statement of this one.
    pool: PgPool,
    /// How long an answer may take.
    patience: Duration,
    /// The server's process of this connection, whose statements may have to be stopped.
    process: Option<i32>,
    guard: Guard,
    order: Option<Order>,
    /// Told once this commits: a turn was passed on, so that a row is due.
    passed: Option<Arc<Notify>>,
    /// The savepoint of an attempt is set, and nothing was done since.
    is_at_savepoint: bool,
    /// A claim did not hold, and what was written is taken back.
    is_overtaken: bool,
    /// Committed, and fit for the pool.
    finished: bool,
}

impl PgUnit {
    /// Opens a transaction. To be run in a task that is not cut.
    pub(super) async fn begin(
        pool: PgPool,
        settings: &Settings,
        order: Option<Order>,
        guard: Guard,
    ) -> Result<Self, UnitLost> {
        let failed = |error| lost("a unit of work could not begin", error);
        let connection = pool.acquire().await.map_err(failed)?;
        // From here on, whatever ends the unit early also ends the connection.
        let mut unit = Self {
            connection,
            statements: Arc::clone(&settings.statements),
            pool,
            patience: settings.session.patience(),
            process: None,
            guard,
            order,
            passed: None,
            is_at_savepoint: false,
            is_overtaken: false,
            finished: false,
        };
        let begun = answered(unit.patience, async {
            transaction::begin::<Postgres>(&mut unit.connection, guard.begin()).await?;
            if guard == Guard::None {
                return Ok(None);
            }
            sqlx::query_scalar("SELECT pg_backend_pid()")
                .fetch_one(&mut *unit.connection)
                .await
                .map(Some)
        });
        unit.process = begun.await.map_err(failed)?;
        Ok(unit)
    }

    async fn run(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        let answer = self.connection.execute(statements);
        answered(self.patience, answer).await.map(|_| ())
    }

    /// Asks the server to stop what this connection runs. Without an answer the statement ends by
    /// itself or by its timeout, and the rollback waits for it.
    ///
    /// Over a connection of its own: the pool may have none left, and would wait for this one.
    async fn stop_statement(&self) {
        let options = self.pool.connect_options();
        let cancelled = answered(STOPPED_WITHIN, async {
            let mut beside = PgConnection::connect_with(&options).await?;
            let cancel = sqlx::query("SELECT pg_cancel_backend($1)").bind(self.process);
            cancel.execute(&mut beside).await?;
            beside.close().await
        });
        if let Err(error) = cancelled.await {
            tracing::warn!(%error, "a statement of a cut attempt could not be cancelled");
        }
    }
}

impl Sealed for PgUnit {}

impl Unit for PgUnit {
    type Connection = PgConnection;
    type Outbox = PgOutbox;

    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// A handler that began a transaction and forgot it leaves sqlx's count too high; one whose
    /// `begin` was cut, too low.
    fn check(&self) -> Result<(), UnitLost> {
        if transaction::is_level::<Postgres>(&self.connection) {
            Ok(())
        } else {
            Err(UnitLost::new(
                LossKind::Handler,
                "a handler left a transaction of its own open, or was cut while it began one",
            ))
        }
    }

    async fn savepoint(&mut self) -> Result<(), UnitLost> {
        if std::mem::take(&mut self.is_at_savepoint) {
            return Ok(());
        }
        self.run("SAVEPOINT eventflow_attempt")
            .await
            .map_err(|error| lost("an attempt could not begin", error))
    }

    /// Sets the next attempt's savepoint with it: a round trip is a third of what an attempt costs.
    async fn release(&mut self) -> Result<bool, UnitLost> {
        const RELEASE: &str = "RELEASE SAVEPOINT eventflow_attempt; SAVEPOINT eventflow_attempt";

        self.check()?;
        match self.run(RELEASE).await {
            Ok(()) => {
                self.is_at_savepoint = true;
                Ok(true)
            }
            Err(error) if code(&error).as_deref() == Some(sqlstate::ABORTED) => {
                self.rollback(false).await?;
                Ok(false)
            }
            Err(error) => Err(lost(
                "an attempt's transaction is gone; a handler must not end it",
                error,
            )),
        }
    }

    async fn rollback(&mut self, interrupt: bool) -> Result<(), UnitLost> {
        const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT eventflow_attempt";

        if interrupt {
            self.stop_statement().await;
        }
        self.check()?;
        let answer = match self.run(ROLLBACK).await {
            // The answer of a statement that a cut attempt left behind comes first, in place of
            // this one's, which was not sent then.
            Err(error) if error.as_database_error().is_some() => self.run(ROLLBACK).await,
            answer => answer,
        };
        answer.map_err(|error| {
            lost(
                "an attempt's transaction is gone; a handler must not end it",
                error,
            )
        })
    }

    async fn insert(
        &mut self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> Result<Insertion, UnitLost> {
        let arrivals = as_stored(arrivals);
        let insert = Insert {
            statements: &self.statements,
            holder,
            run_as: Status::Processed,
        };
        let inserted = insert.first(&mut self.connection, &arrivals);
        let entered = answered(self.patience, inserted).await;
        entered
            .map(|entered| insertion(arrivals, &entered))
            .map_err(|error| lost("events could not be stored", error))
    }

    async fn settle(
        &mut self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, UnitLost> {
        let failed = |error| lost("rows could not be settled", error);
        let policy = self.order.as_ref().map(|order| order.policy);
        if policy.is_none() && settle::all_processed(settlements) {
            let claims = settle::claims(settlements);
            let settled = settle::settle_processed(&mut self.connection, &self.statements, &claims);
            if answered(self.patience, settled).await.map_err(failed)? == claims.len() {
                return Ok(claims);
            }
            // Which claims did not hold, the rows tell once they are as they were.
            self.is_overtaken = true;
            self.is_at_savepoint = false;
            self.run("ROLLBACK TO SAVEPOINT eventflow_unit")
                .await
                .map_err(failed)?;
        }
        let statements = &self.statements;
        let settled = settle::settle(
            &mut self.connection,
            statements,
            policy,
            holder,
            settlements,
        );
        let held = answered(self.patience, settled).await.map_err(failed)?;
        if self.is_overtaken && held.len() == settlements.len() {
            return Err(UnitLost::row_changed());
        }
        if let Some(Order { policy, passed }) = self.order.clone() {
            let (connection, consumer) = (&mut self.connection, &holder.consumer);
            let pass = turn::pass(connection, &self.statements, policy, consumer, settlements);
            if answered(self.patience, pass).await.map_err(failed)? {
                self.passed = Some(passed);
            }
        }
        Ok(held)
    }

    async fn amend(&mut self, holder: &Holder, settlements: &[Settlement]) -> Result<(), UnitLost> {
        let failed = |error| lost("rows could not be amended", error);
        let parameters = settle::next_states(settlements, holder).map_err(failed)?;
        let amend = parameters.of(&self.statements.amend);
        let amended = answered(self.patience, amend.fetch_all(&mut *self.connection));
        let amended = amended.await.and_then(|rows| settled(&rows));
        if amended.map_err(failed)?.len() == settlements.len() {
            Ok(())
        } else {
            Err(UnitLost::row_gone())
        }
    }

    async fn publish(&mut self, outbox: &PgOutbox, outgoing: &[Outgoing]) -> Result<(), UnitLost> {
        let written = outbox.writer().write(&mut self.connection, outgoing);
        answered(self.patience, written).await.map_err(unpublished)
    }

    async fn commit(mut self) -> Result<(), UnitLost> {
        if self.is_overtaken {
            return Err(UnitLost::lease_lost());
        }
        self.check()?;
        if let Some(before) = self.guard.before_commit() {
            self.run(before).await.map_err(|error| {
                lost(
                    "the transaction of a unit of work is gone; a handler must not end it",
                    error,
                )
            })?;
        }
        let commit = transaction::commit::<Postgres>(&mut self.connection);
        answered(self.patience, commit)
            .await
            .map_err(commit_failed)?;
        self.finished = true;
        if let Some(passed) = &self.passed {
            passed.notify_one();
        }
        Ok(())
    }
}

impl Drop for PgUnit {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.close_on_drop();
        }
    }
}

impl fmt::Debug for PgUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgUnit")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

mod sqlstate {
    /// A statement has failed, and only a rollback is taken.
    pub(super) const ABORTED: &str = "25P02";
}

/// What a unit says that lost its transaction by `error`.
///
/// Our own statements are constant, so any other error than the infrastructure's means that the
/// transaction or the savepoint they name is not there.
fn lost(message: &str, error: sqlx::Error) -> UnitLost {
    let kind = infrastructure(&error).unwrap_or(LossKind::Handler);
    UnitLost::new(kind, message).with_source(error)
}

/// A server that answers the commit with an error has stored nothing, unless it was going down.
fn commit_failed(error: sqlx::Error) -> UnitLost {
    let kind = match (code(&error), infrastructure(&error)) {
        (None, _) | (_, Some(LossKind::Infrastructure)) => LossKind::CommitUnknown,
        (_, Some(kind)) => kind,
        (_, None) => LossKind::Handler,
    };
    UnitLost::new(kind, "the commit of a unit of work failed").with_source(error)
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
