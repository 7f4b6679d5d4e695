//! Looks at a table: whether it is an inbox's, and whose.

use sqlx::PgConnection;

use super::failed;
use crate::{
    database::postgres::table::{self, Table},
    error::{Error, ErrorKind},
    inbox::columns::COLUMNS,
};

/// Checks that the table has every column, and that it stores an event once for each service.
pub(super) async fn check(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let there = columns(connection, table).await?;
    if there.is_empty() {
        return Err(Error::new(
            ErrorKind::Schema,
            format!("there is no table {table}; call `migrate()`, or apply `schema_sql()`"),
        ));
    }
    let has_owner = there.iter().any(|column| column == "consumer");
    if has_owner && is_unique_alone(connection, table).await? {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} takes an `event_id` once for all services: an adoption that is not done yet, which this process waits for; if none is under way, call `migrate()`, or drop the unique index on `event_id` alone"
            ),
        )
        .transient(true));
    }
    let missing = COLUMNS
        .into_iter()
        .find(|&column| !there.iter().any(|there| there == column));
    if let Some(column) = missing {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} has no column `{column}`: it is the Python package's, or older than this version; call `migrate()`"
            ),
        ));
    }
    if !stores_once(connection, table).await? {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} has no unique index of a consumer's event, so that none can be stored; run `CREATE UNIQUE INDEX ON {table} (consumer, event_id)`"
            ),
        ));
    }
    Ok(())
}

/// Checks that a service which is named as the table's owner is the one that adopted it: to the
/// other's consumer the rows would not exist.
///
/// To be run where a backslash is a letter of a literal.
pub(super) async fn check_owner(
    connection: &mut PgConnection,
    table: &Table,
    named: &str,
) -> Result<(), Error> {
    let default: Option<String> = sqlx::query_scalar(
        "SELECT pg_get_expr(adbin, adrelid)
         FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
         WHERE adrelid = to_regclass($1) AND attname = 'consumer'",
    )
    .bind(table.to_string())
    .fetch_optional(connection)
    .await
    .map_err(|error| not_seen(table, error))?;
    match default.as_deref().and_then(literal) {
        Some(owner) if owner != named => Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} belongs to service `{owner}`, and not to `{named}`, which `PgInbox::builder(…).consumer(\"…\")` names; name `{owner}` there, or none"
            ),
        )),
        _ => Ok(()),
    }
}

/// The text of an expression like `'billing'::character varying`; `None` if it is another one.
fn literal(expression: &str) -> Option<String> {
    let (text, _) = expression.strip_prefix('\'')?.rsplit_once("'::")?;
    Some(text.replace("''", "'"))
}

/// Whether the insert finds the index that it names in `ON CONFLICT`.
async fn stores_once(connection: &mut PgConnection, table: &Table) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = to_regclass($1) AND indisunique AND indimmediate AND indisvalid
                AND indpred IS NULL AND indnkeyatts = 2
                AND 2 = (
                    SELECT COUNT(*) FROM pg_attribute
                    WHERE attrelid = indrelid AND attnum IN (indkey[0], indkey[1])
                        AND attname IN ('consumer', 'event_id')))",
    )
    .bind(table.to_string())
    .fetch_one(connection)
    .await
    .map_err(|error| not_seen(table, error))
}

/// Whether what made a Python table's events unique is still there: it refuses an event that another
/// service has, which none of the inserts expects.
async fn is_unique_alone(connection: &mut PgConnection, table: &Table) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
            SELECT FROM pg_index
            JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
            WHERE indrelid = to_regclass($1) AND indisunique AND NOT indisprimary
                AND indpred IS NULL AND indnkeyatts = 1 AND attname = 'event_id')",
    )
    .bind(table.to_string())
    .fetch_one(connection)
    .await
    .map_err(|error| not_seen(table, error))
}

/// The columns of the table; none if there is none.
pub(super) async fn columns(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Vec<String>, Error> {
    let columns = table::columns(connection, table).await;
    columns.map_err(|error| not_seen(table, error))
}

fn not_seen(table: &Table, error: sqlx::Error) -> Error {
    failed(format!("table {table} could not be looked at"), error)
}
