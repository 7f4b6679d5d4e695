//! A connection of the pool for one statement, which is committed when it is answered.

use std::{io, time::Duration};

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};

use crate::database::error::code;

/// Runs a statement, and commits it. To be run in a task that is not cut.
///
/// One that is not answered has run or will, or was never heard of; its connection is closed. A
/// connection whose server takes no writes is closed, not kept for the next statement: by now
/// its host's name may lead to the server that does.
pub(crate) async fn run<T>(
    pool: &PgPool,
    is_users: bool,
    patience: Duration,
    statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if is_users {
        return run_together(pool, BEGIN, patience, statement).await;
    }
    let mut connection = pool.acquire().await?;
    let answer = answered(patience, statement(&mut connection)).await;
    keep_or_close(connection, answer)
}

/// Begins a transaction of one statement. Others wait for what it has locked, so the server ends it when
/// its process stands still; a large statement on a slow network takes a while to come.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Begins a transaction whose statements each see what was committed before them. A whole consumer may wait
/// for it.
pub(crate) const BEGIN_READ_COMMITTED: &str = "
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// As [`run`], for statements that commit together.
pub(crate) async fn run_together<T>(
    pool: &PgPool,
    begin: &'static str,
    patience: Duration,
    statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut has_begun = false;
    let running = run_in_transaction(&mut connection, begin, &mut has_begun, statements);
    let answer = answered(patience, running).await;
    if !has_begun {
        // It may be open all the same: what begins it is two statements.
        connection.close_on_drop();
    }
    keep_or_close(connection, answer)
}

fn keep_or_close<T>(
    mut connection: PoolConnection<Postgres>,
    answer: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    const READ_ONLY: &str = "25006";

    if let Err(error) = &answer
        && (code(error).as_deref() == Some(READ_ONLY) || matches!(error, sqlx::Error::Io(_)))
    {
        connection.close_on_drop();
    }
    answer
}

/// Waits for a server's answer, for as long as one may take.
///
/// The server has limits of its own for a statement, but nothing says that its answer does not come
/// because the network has lost the connection, for as long as TCP repeats what it has sent.
pub(crate) async fn answered<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let answered = tokio::time::timeout(patience, answer).await;
    answered.unwrap_or_else(|_| {
        let silent = format!("the database has not answered within {patience:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, silent).into())
    })
}

/// Runs a statement in a transaction of its own.
///
/// A handler that is cut while it begins a transaction gives the connection back to the user's pool
/// inside of it, where a statement does not commit by itself. A commit does, of whatever is open.
async fn run_in_transaction<T>(
    connection: &mut PgConnection,
    opening: &'static str,
    has_begun: &mut bool,
    statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    const ABORTED: &str = "25P02";

    let begun = connection.begin_with(opening).await;
    let mut transaction = begun.map_err(|error| match code(&error).as_deref() {
        Some(ABORTED) => sqlx::Error::BeginFailed,
        _ => error,
    })?;
    *has_begun = true;
    match statement(&mut transaction).await {
        Ok(answer) => transaction.commit().await.map(|()| answer),
        Err(error) => {
            // It says no more than the statement's own error.
            transaction.rollback().await.unwrap_or_default();
            Err(error)
        }
    }
}
