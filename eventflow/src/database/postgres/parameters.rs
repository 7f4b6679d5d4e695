//! What a statement takes: one array for each column of a batch, and single values.

use sqlx::{Arguments as _, Postgres, postgres::PgArguments};

use crate::database::sql::Sql;

/// A statement with its values.
pub(crate) type Statement = sqlx::query::Query<'static, Postgres, PgArguments>;

/// The parameters of a statement, written as they are added.
#[derive(Default)]
pub(crate) struct Parameters(PgArguments);

impl Parameters {
    /// Adds a column.
    pub(crate) fn array<'t, T>(
        &mut self,
        values: impl Iterator<Item = T>,
    ) -> Result<(), sqlx::Error>
    where
        Vec<T>: sqlx::Encode<'t, Postgres> + sqlx::Type<Postgres>,
    {
        let values: Vec<T> = values.collect();
        self.value(values)
    }

    /// Adds one value.
    pub(crate) fn value<'t, T>(&mut self, value: T) -> Result<(), sqlx::Error>
    where
        T: sqlx::Encode<'t, Postgres> + sqlx::Type<Postgres>,
    {
        self.0.add(value).map_err(sqlx::Error::Encode)
    }

    /// The statement with these parameters.
    pub(crate) fn of(self, sql: &Sql) -> Statement {
        sqlx::query_with(sql.text(), self.0)
    }
}
