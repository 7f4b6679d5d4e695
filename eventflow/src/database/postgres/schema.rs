//! Creates the schema of a table.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::table::Table;
use crate::database::identifier::Identifier;

/// Looks first: who may not create schemas may still use one that is there.
///
/// Processes with other tables may want the same schema at once. Only they wait here, not those
/// that find it. Who has this lock makes a new table, and waits for nobody.
pub(crate) async fn create_schema(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<(), sqlx::Error> {
    let Some(schema) = &table.schema else {
        return Ok(());
    };
    if is_there(connection, schema).await? {
        return Ok(());
    }
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('eventflow:' || $1, 0))")
        .bind(schema.as_str())
        .execute(&mut *connection)
        .await?;
    if !is_there(connection, schema).await? {
        connection
            .execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .await?;
    }
    Ok(())
}

async fn is_there(connection: &mut PgConnection, schema: &Identifier) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.as_str())
        .fetch_one(connection)
        .await
}
