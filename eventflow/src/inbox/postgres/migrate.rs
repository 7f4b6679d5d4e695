//! Creates the table, or finds one that is to be adopted from the Python package, or changed.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};

use super::{
    adopt::adopt,
    check::{check, check_owner, columns},
    failed,
};
use crate::{
    database::postgres::{history, lease, migration_lock, schema::create_schema, table::Table},
    error::Error,
    fail_point::{self, Point},
};

const INBOX: &str = include_str!("../../../migrations/postgres/0001_inbox.sql");
pub(super) const INDEXES: &str = include_str!("../../../migrations/postgres/0001_indexes.sql");
const ORDER: &str = include_str!("../../../migrations/postgres/0002_order.sql");
pub(super) const ORDER_INDEXES: &str =
    include_str!("../../../migrations/postgres/0002_indexes.sql");

/// The version of a table without an order.
pub(super) const UNORDERED: i32 = 1;

/// The version that this crate's files lead to.
pub(super) const VERSION: i32 = 2;

/// The SQL that creates the table and its indexes.
pub(super) fn schema_sql(table: &Table) -> String {
    let [inbox, indexes, order_indexes] =
        [INBOX, INDEXES, ORDER_INDEXES].map(|template| named(template, table));
    let order = order_sql(table);
    format!("{inbox}\n{indexes}\n{order}\n{order_indexes}")
}

/// The SQL that gives the table what an order needs, but for the indexes.
pub(super) fn order_sql(table: &Table) -> String {
    format!("{}{}", named(ORDER, table), lease::schema_sql(table))
}

/// Puts the names of the table and of its indexes and constraints in their places.
pub(super) fn named(template: &str, table: &Table) -> String {
    let template = template.replace("{positions}", &table.beside("positions"));
    table.named(
        &template,
        &[
            "uq_event",
            "ck_status",
            "ix_due",
            "ix_lapsed",
            "ix_processed",
            "ix_dead",
            "ix_turn",
            "ix_held",
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
            // One that is adopted is then without an order.
            Found::Pythons | Found::HalfAdopted | Found::Unordered | Found::HalfOrdered => {
                transaction.rollback().await.map_err(failed)?;
                adopt(pool, key, table, consumer).await?;
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
    /// A table without an order.
    Unordered,
    /// A table that was being given its order, by a process that is no more.
    HalfOrdered,
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
    let has = |name: &str| there.iter().any(|column| column == name);
    Ok(match version {
        _ if there.is_empty() => Found::Nothing,
        _ if !has("consumer") => Found::Pythons,
        Some(version) if version < UNORDERED => Found::HalfAdopted,
        _ if !has("position") => Found::Unordered,
        Some(_) => Found::HalfOrdered,
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
