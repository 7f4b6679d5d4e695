//! The name of a table.

use std::fmt;

use sqlx::PgConnection;

use crate::database::identifier::Identifier;

/// A table's name, with its schema if one was chosen; else the search path finds it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) schema: Option<Identifier>,
    pub(crate) name: Identifier,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl Table {
    /// Puts the names of the table, and of its indexes and constraints, in their places: each is a kind
    /// and what it is of, as `ix_due`.
    pub(crate) fn named(&self, template: &str, names: &[&str]) -> String {
        let sql = template.replace("{table}", &self.to_string());
        self.name.name_indexes(sql, names)
    }

    /// The name of a table that goes with this one.
    pub(crate) fn beside(&self, suffix: &str) -> String {
        let name = format!("\"{}_{suffix}\"", self.name.as_str());
        match &self.schema {
            Some(schema) => format!("{schema}.{name}"),
            None => name,
        }
    }
}

/// The columns of a table; none if there is none.
pub(crate) async fn columns(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
    )
    .bind(table.to_string())
    .fetch_all(connection)
    .await
}
