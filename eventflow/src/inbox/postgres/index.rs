//! Builds an index beside the table's writers, outside of any transaction.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::migrate::{INDEXES, ORDER_INDEXES, named};
use crate::database::postgres::{
    migration_lock::{BEGIN, Lifted, lift_limits},
    table::Table,
};

const UNIQUE_INDEX: &str = "CREATE UNIQUE INDEX {uq_event} ON {table} (consumer, event_id);";

/// An index of the inbox that is built beside the table's writers.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: String,
    create: String,
}

/// The indexes that an adopted table gets, the unique one first.
pub(super) fn indexes(table: &Table) -> Vec<Index> {
    indexes_of(&format!("{UNIQUE_INDEX}{INDEXES}"), table)
}

/// The indexes of an order.
pub(super) fn order_indexes(table: &Table) -> Vec<Index> {
    indexes_of(ORDER_INDEXES, table)
}

fn indexes_of(template: &str, table: &Table) -> Vec<Index> {
    let statements = named(template, table);
    let statements = statements.split(';').map(str::trim);
    let indexes = statements.filter_map(|statement| {
        Some(Index {
            name: statement.split('"').nth(1)?.to_owned(),
            create: statement.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1),
        })
    });
    indexes.collect()
}

impl Index {
    /// Builds the index if it is not there whole.
    pub(super) async fn build(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<(), sqlx::Error> {
        wait_for_builders(connection, table).await?;
        match self.found(connection, table).await? {
            Some((_, true)) => return Ok(()),
            Some((name, false)) => {
                let drop = format!("DROP INDEX CONCURRENTLY {name}");
                connection.execute(AssertSqlSafe(drop)).await?;
            }
            None => {}
        }
        tracing::info!(%table, index = self.name, "an index is being built");
        let create = AssertSqlSafe(self.create.clone());
        connection.execute(create).await.map(drop)
    }

    /// The index's full name, and whether it is whole.
    async fn found(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<Option<(String, bool)>, sqlx::Error> {
        sqlx::query_as(
            "SELECT indexrelid::regclass::text, indisvalid
             FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
             WHERE indrelid = to_regclass($1) AND relname = $2",
        )
        .bind(table.to_string())
        .bind(self.name.clone())
        .fetch_optional(connection)
        .await
    }
}

/// Waits for index builds on the table: the server goes on with one whose process was killed.
///
/// The lock lets the table be read and written, and to wait for it needs no snapshot.
async fn wait_for_builders(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    lift_limits(&mut transaction, Lifted::InTransaction).await?;
    let lock = format!("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE");
    transaction.execute(AssertSqlSafe(lock)).await?;
    transaction.commit().await
}
