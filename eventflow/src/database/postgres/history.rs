//! The table that records which migrations were applied.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::table::Table;

/// Recorded while a table is being adopted.
pub(crate) const BEGUN: i32 = 0;

/// The version of the table; none if nothing is recorded.
pub(crate) async fn version(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Option<i32>, sqlx::Error> {
    if !is_there(connection, table).await? {
        return Ok(None);
    }
    let sql = format!("SELECT MAX(version) FROM {}", name(table));
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
}

/// Records a version, in place of an adoption that had begun.
pub(crate) async fn record(
    connection: &mut PgConnection,
    table: &Table,
    version: i32,
) -> Result<(), sqlx::Error> {
    let history = name(table);
    if !is_there(connection, table).await? {
        connection
            .execute(AssertSqlSafe(format!(
                "CREATE TABLE {history} (
                     version INTEGER PRIMARY KEY,
                     applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
                 )"
            )))
            .await?;
    }
    connection
        .execute(AssertSqlSafe(format!(
            "DELETE FROM {history} WHERE version = {BEGUN};
             INSERT INTO {history} (version) VALUES ({version})"
        )))
        .await
        .map(|_| ())
}

/// Looks first: who may not create tables may still use one that is there.
async fn is_there(connection: &mut PgConnection, table: &Table) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(name(table))
        .fetch_one(connection)
        .await
}

fn name(table: &Table) -> String {
    table.beside("migrations")
}
