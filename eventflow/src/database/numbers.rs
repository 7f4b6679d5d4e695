//! Numbers in rows, the same in both databases.

use sqlx::{ColumnIndex, Decode, Row, Type};

/// A row of either database: with numbers, by the place or the name of their column.
pub(crate) trait Numbers: Row {
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error>;

    fn named(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;

    /// A number of rows.
    fn count(&self, column: usize) -> Result<u64, sqlx::Error> {
        Ok(self.number(column)?.unwrap_or_default().unsigned_abs())
    }
}

impl<R: Row> Numbers for R
where
    Option<i64>: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    usize: ColumnIndex<R>,
    for<'c> &'c str: ColumnIndex<R>,
{
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn named(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }
}
