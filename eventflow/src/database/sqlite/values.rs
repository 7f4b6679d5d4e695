//! Values as SQLite gives them, and lists on their way into a statement.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

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
