//! Creates the table, or finds that one of the Python package's is to be adopted.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};

use super::{
    adopt::adopt,
    check::{check, check_owner, columns},
    failed,
};
use crate::{
    database::postgres::{history, migration_lock, schema::create_schema, table::Table},
    error::Error,
    fail_point::{self, Point},
};

const INBOX: &str = include_str!("../../../migrations/postgres/0001_inbox.sql");
pub(super) const INDEXES: &str = include_str!("../../../migrations/postgres/0001_indexes.sql");

/// The version that this crate's files lead to.
pub(super) const VERSION: i32 = 1;

/// The SQL that creates the table and its indexes.
pub(super) fn schema_sql(table: &Table) -> String {
    format!("{}\n{}", named(INBOX, table), named(INDEXES, table))
}

/// Puts the names of the table and of its indexes and constraints in their places.
pub(super) fn named(template: &str, table: &Table) -> String {
    table.named(
        template,
        &[
            "uq_event",
            "ck_status",
            "ix_due",
            "ix_lapsed",
            "ix_processed",
            "ix_dead",
        ],
    )
}

/// Creates what is missing, one process at a time: others wait for the lock, and then find it
/// done, since each statement sees what was committed before it.
pub(super) async fn migrate(
    pool: &PgPool,
    table: &Table,
    consumer: Option<&str>,
) -> Result<(), Error> {
    let failed = |error| unprepared(table, error);
    let key = migration_lock::key(pool, table).await.map_err(failed)?;
    loop {
        // Commits together: the table, its indexes and the record of them.
        let locked = migration_lock::begin(pool, key).await;
        let mut transaction = locked.map_err(failed)?;
        create_schema(&mut transaction, table)
            .await
            .map_err(failed)?;
        match found(&mut transaction, table).await? {
            Found::Recorded => {}
            Found::Nothing => {
                let create = AssertSqlSafe(schema_sql(table));
                transaction.execute(create).await.map_err(failed)?;
                record(&mut transaction, table).await?;
            }
            Found::Unrecorded => record(&mut transaction, table).await?,
            Found::Pythons | Found::HalfAdopted => {
                transaction.rollback().await.map_err(failed)?;
                if adopt(pool, key, table, consumer).await? {
                    return Ok(());
                }
                continue;
            }
        }
        finish(&mut transaction, table, consumer).await?;
        return transaction.commit().await.map_err(failed);
    }
}

/// What a migration finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No table.
    Nothing,
    /// A table of the Python package.
    Pythons,
    /// A table whose adoption was begun, by a process that is no more.
    HalfAdopted,
    /// A table that was made from `schema_sql()`.
    Unrecorded,
    /// A table of this version, or of a newer one.
    Recorded,
}

pub(super) async fn found(connection: &mut PgConnection, table: &Table) -> Result<Found, Error> {
    let version = history::version(connection, table).await;
    let version = version.map_err(|error| unprepared(table, error))?;
    if version.is_some_and(|version| version >= VERSION) {
        return Ok(Found::Recorded);
    }
    let there = columns(connection, table).await?;
    let has_owner = there.iter().any(|column| column == "consumer");
    Ok(match version {
        _ if there.is_empty() => Found::Nothing,
        _ if !has_owner => Found::Pythons,
        Some(_) => Found::HalfAdopted,
        None => Found::Unrecorded,
    })
}

async fn record(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let recorded = history::record(connection, table, VERSION).await;
    recorded.map_err(|error| unprepared(table, error))
}

/// Looks at the table before the migration is committed.
pub(super) async fn finish(
    connection: &mut PgConnection,
    table: &Table,
    consumer: Option<&str>,
) -> Result<(), Error> {
    check(connection, table).await?;
    if let Some(consumer) = consumer {
        check_owner(connection, table, consumer).await?;
    }
    fail_point::reach(Point::InMigration).await
}

pub(super) fn unprepared(table: &Table, error: sqlx::Error) -> Error {
    failed(format!("table {table} could not be prepared"), error)
}
