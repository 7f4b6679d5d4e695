//! Values as SQLite gives them, and lists on their way into a statement.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use crate::database::identifier::Identifier;

/// Reads an id.
pub(crate) fn uuid(row: &SqliteRow, index: usize) -> Result<Uuid, sqlx::Error> {
    let text: &str = row.try_get(index)?;
    Uuid::parse_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Reads a time of the table.
pub(crate) fn time(micros: i64) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| sqlx::Error::Decode("a time is out of range".into()))
}

/// Writes values as JSON, which the database takes apart.
pub(crate) fn json<T: Serialize + ?Sized>(values: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// The columns of a table; none if there is none.
pub(crate) async fn columns(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name FROM pragma_table_info($1)")
        .bind(table.as_str())
        .fetch_all(connection)
        .await
}
