//! The table that records which migrations were applied.

use sqlx::{AssertSqlSafe, Executor as _, SqliteConnection};

use super::NOW;
use crate::database::identifier::Identifier;

/// The version of the table; none if nothing is recorded.
pub(crate) async fn version(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<Option<i64>, sqlx::Error> {
    let history = name(table);
    connection
        .execute(AssertSqlSafe(format!(
            "CREATE TABLE IF NOT EXISTS {history} (
                 version INTEGER NOT NULL PRIMARY KEY,
                 applied_at INTEGER NOT NULL DEFAULT ({NOW})
             ) STRICT"
        )))
        .await?;
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT MAX(version) FROM {history}")))
        .fetch_one(connection)
        .await
}

/// Records a version.
pub(crate) async fn record(
    connection: &mut SqliteConnection,
    table: &Identifier,
    version: i64,
) -> Result<(), sqlx::Error> {
    let history = name(table);
    let insert = AssertSqlSafe(format!("INSERT INTO {history} (version) VALUES ($1)"));
    sqlx::query(insert)
        .bind(version)
        .execute(connection)
        .await
        .map(|_| ())
}

fn name(table: &Identifier) -> String {
    format!("\"{}_migrations\"", table.as_str())
}
