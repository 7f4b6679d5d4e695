//! Creates the table, and checks it.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::{
    database::{
        identifier::Identifier,
        sqlite::{history, lease, values::columns},
    },
    error::Error,
    outbox::{check_columns, failed},
};

const OUTBOX: &str = include_str!("../../../migrations/sqlite/0001_outbox.sql");

/// The version that this crate's files lead to.
const VERSION: i64 = 1;

/// The SQL that creates the table, its indexes and the table of its leases.
pub(super) fn schema_sql(table: &Identifier) -> String {
    let names = ["ix_pending", "ix_delayed", "ix_published", "ix_dead"];
    let sql = OUTBOX.replace("{table}", &table.to_string());
    table.name_indexes(sql, &names) + &lease::schema_sql(table)
}

/// Creates what is missing. The write lock that the transaction takes at once makes it safe when
/// many processes call it together.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<(), Error> {
    let failed = |error| failed(format!("table {table} could not be prepared"), error);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
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
pub(super) async fn check(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<(), Error> {
    let there = columns(connection, table)
        .await
        .map_err(|error| failed(format!("table {table} could not be looked at"), error))?;
    check_columns(table, &there)
}
