//! Creates the table, and checks it.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};

use crate::{
    database::postgres::{
        history, lease, migration_lock,
        schema::create_schema,
        table::{Table, columns},
    },
    error::Error,
    outbox::{check_columns, failed},
};

const OUTBOX: &str = include_str!("../../../migrations/postgres/0001_outbox.sql");

/// The version that this crate's files lead to.
const VERSION: i32 = 1;

/// The SQL that creates the table, its indexes and the table of its leases.
pub(super) fn schema_sql(table: &Table) -> String {
    let names = [
        "ck_status",
        "ix_pending",
        "ix_delayed",
        "ix_published",
        "ix_dead",
    ];
    table.named(OUTBOX, &names) + &lease::schema_sql(table)
}

/// Creates what is missing, one process at a time: others wait for the lock, and then find it done.
pub(super) async fn migrate(pool: &PgPool, table: &Table) -> Result<(), Error> {
    let failed = |error| failed(format!("table {table} could not be prepared"), error);
    let key = migration_lock::key(pool, table).await.map_err(failed)?;
    let locked = migration_lock::begin(pool, key).await;
    let mut transaction = locked.map_err(failed)?;
    create_schema(&mut transaction, table)
        .await
        .map_err(failed)?;
    let version = history::version(&mut transaction, table).await;
    if version.map_err(failed)? < Some(VERSION) {
        let there = columns(&mut transaction, table).await.map_err(failed)?;
        if there.is_empty() {
            let create = AssertSqlSafe(schema_sql(table));
            transaction.execute(create).await.map_err(failed)?;
        }
        let recorded = history::record(&mut transaction, table, VERSION).await;
        recorded.map_err(failed)?;
    }
    check(&mut transaction, table).await?;
    transaction.commit().await.map_err(failed)
}

/// Checks that the table has every column.
pub(super) async fn check(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let there = columns(connection, table)
        .await
        .map_err(|error| failed(format!("table {table} could not be looked at"), error))?;
    check_columns(table, &there)
}
