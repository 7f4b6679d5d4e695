//! The lock that lets one process at a time migrate a table.
//!
//! It is a transaction's, not a session's, so it works through a pooler.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::table::Table;
use crate::database::identifier::Identifier;

/// Begins a transaction of a migration: it writes, and each of its statements sees what was
/// committed before. Between them it has no snapshot, so that no index build waits for it.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Pauses before something is tried again: each is twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Pauses {
    pub(crate) next: Duration,
    pub(crate) longest: Duration,
}

impl Pauses {
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = self.longest.min(self.next * 2);
    }
}

/// The number of a table's lock.
pub(crate) async fn key(pool: &PgPool, table: &Table) -> Result<i64, sqlx::Error> {
    let schema = table.schema.as_ref().map(Identifier::as_str);
    sqlx::query_scalar(
        "SELECT hashtextextended(
            'eventflow:' || COALESCE($1, current_schema(), '') || '.' || $2, 0)",
    )
    .bind(schema.map(str::to_owned))
    .bind(table.name.as_str())
    .fetch_one(pool)
    .await
}

/// Begins a transaction that has the lock until it ends.
///
/// Waits for others by asking again. A statement that waits in the server has a snapshot, for whose
/// end an index build waits: that of the process which has the lock would never be done.
pub(crate) async fn begin(
    pool: &PgPool,
    key: i64,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut pauses = Pauses {
        next: Duration::from_millis(10),
        longest: Duration::from_millis(250),
    };
    loop {
        let mut transaction = pool.begin_with(BEGIN).await?;
        lift_limits(&mut transaction, Lifted::InTransaction).await?;
        let is_locked = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(key);
        if is_locked.fetch_one(&mut *transaction).await? {
            return Ok(transaction);
        }
        transaction.rollback().await?;
        pauses.pause().await;
    }
}

/// How long limits are lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifted {
    InTransaction,
    InSession,
}

/// Settings, and what a migration needs of them. Not every version has each.
const LIFTED: [(&str, &str); 6] = [
    ("lock_timeout", "0"),
    ("statement_timeout", "0"),
    ("transaction_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("standard_conforming_strings", "on"),
];

/// Lifts every limit of time: a migration may take longer than a statement of ours ever should. A
/// backslash is a letter of a literal from here on, and a transaction writes.
pub(crate) async fn lift_limits(
    connection: &mut PgConnection,
    lifted: Lifted,
) -> Result<(), sqlx::Error> {
    let (names, values): (Vec<_>, Vec<_>) = LIFTED.into_iter().unzip();
    sqlx::query(
        "SELECT set_config(name, lifted, $3)
         FROM pg_settings JOIN unnest($1::text[], $2::text[]) AS each(name, lifted) USING (name)",
    )
    .bind(names)
    .bind(values)
    .bind(lifted == Lifted::InTransaction)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Sets the session's limits as they were when it was opened.
pub(crate) async fn restore_limits(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names = LIFTED.map(|(name, _)| name);
    sqlx::query("SELECT set_config(name, reset_val, FALSE) FROM pg_settings WHERE name = ANY($1)")
        .bind(names.as_slice())
        .execute(connection)
        .await
        .map(|_| ())
}
