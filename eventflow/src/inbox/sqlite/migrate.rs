//! Creates the table, and checks it.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::{
    database::{
        identifier::Identifier,
        sqlite::{history, lease, values},
    },
    error::{Error, ErrorKind},
    fail_point::{self, Point},
    inbox::columns::COLUMNS,
};

const INBOX: &str = include_str!("../../../migrations/sqlite/0001_inbox.sql");

const ORDER: &str = include_str!("../../../migrations/sqlite/0002_order.sql");

/// The version that this crate's files lead to.
const VERSION: i64 = 2;

/// The SQL that creates the table and its indexes.
pub(super) fn schema_sql(table: &Identifier) -> String {
    format!("{}\n{}", named(INBOX, table), order_sql(table))
}

/// The SQL that gives the table what an order needs.
fn order_sql(table: &Identifier) -> String {
    format!("{}{}", named(ORDER, table), lease::schema_sql(table))
}

fn named(template: &str, table: &Identifier) -> String {
    let positions = format!("\"{}_positions\"", table.as_str());
    let sql = template
        .replace("{table}", &table.to_string())
        .replace("{positions}", &positions);
    let indexes = [
        "ix_due",
        "ix_lapsed",
        "ix_processed",
        "ix_dead",
        "ix_turn",
        "ix_held",
    ];
    table.name_indexes(sql, &indexes)
}

/// Creates what is missing. The write lock that the transaction takes at once makes it safe when
/// many processes call it together.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<(), Error> {
    let failed = |error| failed(table, error);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let version = history::version(&mut transaction, table).await;
    if version.map_err(failed)? < Some(VERSION) {
        let there = columns(&mut transaction, table).await?;
        let has = |name: &str| there.iter().any(|column| column == name);
        let missing = match () {
            () if there.is_empty() => Some(schema_sql(table)),
            () if has("consumer") && !has("position") => Some(order_sql(table)),
            () => None,
        };
        if let Some(sql) = missing {
            transaction
                .execute(AssertSqlSafe(sql))
                .await
                .map_err(failed)?;
        }
        let recorded = history::record(&mut transaction, table, VERSION).await;
        recorded.map_err(failed)?;
    }
    check(&mut transaction, table).await?;
    fail_point::reach(Point::InMigration).await?;
    transaction.commit().await.map_err(failed)
}

/// Checks that the table has every column, and that it keeps an event from being stored twice.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<(), Error> {
    let there = columns(connection, table).await?;
    if there.is_empty() {
        return Err(Error::new(
            ErrorKind::Schema,
            format!("there is no table {table}; call `migrate()`, or apply `schema_sql()`"),
        ));
    }
    if !there.iter().any(|column| column == "consumer") {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} is not an inbox of this crate's; SQLite tables of other makers are not adopted: choose another name with `table(…)`"
            ),
        ));
    }
    let missing = COLUMNS
        .into_iter()
        .find(|&column| !there.iter().any(|there| there == column));
    if let Some(column) = missing {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} has no column `{column}`; it is older than this version: call `migrate()`, or apply `schema_sql()`"
            ),
        ));
    }
    if !numbers_rows(connection, table).await? {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} was made `WITHOUT ROWID`, by which new rows are found; make it from `schema_sql()`"
            ),
        ));
    }
    if !stores_once(connection, table).await? {
        let name = table.as_str();
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table {table} has no unique index of a consumer's event, so that none can be stored; run `CREATE UNIQUE INDEX \"uq_{name}_event\" ON {table} (consumer, event_id)`"
            ),
        ));
    }
    Ok(())
}

/// Whether the insert finds the index that it names in `ON CONFLICT`.
async fn stores_once(connection: &mut SqliteConnection, table: &Identifier) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (
            SELECT 1 FROM pragma_index_list($1) AS listed
            WHERE listed.\"unique\" AND NOT listed.partial AND (
                SELECT COUNT(*) = 2 AND SUM(name IN ('consumer', 'event_id')) = 2
                FROM pragma_index_info(listed.name)))",
    )
    .bind(table.as_str())
    .fetch_one(connection)
    .await
    .map_err(|error| failed(table, error))
}

/// Whether the table has row ids.
async fn numbers_rows(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT NOT wr FROM pragma_table_list($1) WHERE schema = 'main'")
        .bind(table.as_str())
        .fetch_one(connection)
        .await
        .map_err(|error| failed(table, error))
}

async fn columns(
    connection: &mut SqliteConnection,
    table: &Identifier,
) -> Result<Vec<String>, Error> {
    let columns = values::columns(connection, table).await;
    columns.map_err(|error| failed(table, error))
}

fn failed(table: &Identifier, error: sqlx::Error) -> Error {
    super::failed(format!("table {table} could not be prepared"), error)
}
