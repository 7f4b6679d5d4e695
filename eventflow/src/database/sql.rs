//! The text of a statement.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

/// A statement's text: made of constants and identifiers, never of values.
#[derive(Debug, Clone)]
pub(crate) struct Sql(Arc<str>);

impl Sql {
    /// Takes a text with the names in their places.
    pub(crate) fn new(text: String) -> Self {
        Self(Arc::from(text))
    }

    /// The text, for sqlx.
    pub(crate) fn text(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.0))
    }
}
