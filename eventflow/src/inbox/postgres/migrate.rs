//! Creates the table, or adopts one of the Python package's.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{
    check::{check, check_owner, columns},
    failed,
    sql::Table,
};
use crate::{
    error::{Error, ErrorKind},
    fail_point::{self, Point},
    inbox::identifier::Identifier,
};

const INBOX: &str = include_str!("../../../migrations/postgres/0001_inbox.sql");
const INDEXES: &str = include_str!("../../../migrations/postgres/0001_indexes.sql");
const ADOPT: &str = include_str!("../../../migrations/postgres/0001_adopt.sql");

/// The version that this crate's files lead to.
const VERSION: i32 = 1;

/// The SQL that creates the table and its indexes.
pub(super) fn schema_sql(table: &Table) -> String {
    format!("{}\n{}", named(INBOX, table), named(INDEXES, table))
}

/// The SQL that adopts a table, for a session where a backslash is a letter of a literal.
fn adopt_sql(table: &Table, consumer: &str) -> String {
    let consumer = format!("'{}'", consumer.replace('\'', "''"));
    // The owner's name comes last: nothing in it is a place for another name.
    let adopt = named(ADOPT, table).replace("{consumer}", &consumer);
    format!("{adopt}\n{}", named(INDEXES, table))
}

/// Puts the names of the table and of its indexes and constraints in their places.
fn named(template: &str, table: &Table) -> String {
    let mut sql = template.replace("{table}", &table.to_string());
    for (prefix, suffix) in [
        ("uq", "event"),
        ("ck", "status"),
        ("ix", "due"),
        ("ix", "lapsed"),
        ("ix", "processed"),
        ("ix", "dead"),
    ] {
        let name = format!("\"{prefix}_{}_{suffix}\"", table.name.as_str());
        sql = sql.replace(&format!("{{{prefix}_{suffix}}}"), &name);
    }
    sql
}

/// Creates what is missing, one process at a time: others wait for the lock, and then find it
/// done, since each statement sees what was committed before it. The lock is the transaction's, so
/// it works through a pooler.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    table: &Table,
    consumer: Option<&str>,
) -> Result<(), Error> {
    let failed = |error| failed(format!("table {table} could not be prepared"), error);
    let mut transaction = connection
        .begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await
        .map_err(failed)?;
    // Another process's migration may take longer than a statement of ours ever should.
    transaction
        .execute(
            "SET LOCAL lock_timeout = 0;
             SET LOCAL statement_timeout = 0;
             SET LOCAL standard_conforming_strings = on",
        )
        .await
        .map_err(failed)?;
    lock(&mut transaction, table).await.map_err(failed)?;
    create_schema(&mut transaction, table)
        .await
        .map_err(failed)?;
    if !is_recorded(&mut transaction, table).await.map_err(failed)? {
        let there = columns(&mut transaction, table).await?;
        let sql = if there.is_empty() {
            schema_sql(table)
        } else if there.iter().any(|column| column == "consumer") {
            // Made from `schema_sql()`.
            String::new()
        } else {
            adopt_sql(table, consumer.ok_or_else(|| owner_needed(table))?)
        };
        transaction
            .execute(AssertSqlSafe(sql))
            .await
            .map_err(failed)?;
        record(&mut transaction, table).await.map_err(failed)?;
    }
    check(&mut transaction, table).await?;
    if let Some(consumer) = consumer {
        check_owner(&mut transaction, table, consumer).await?;
    }
    fail_point::reach(Point::InMigration).await?;
    transaction.commit().await.map_err(failed)
}

/// Waits for other processes that migrate the table.
async fn lock(connection: &mut PgConnection, table: &Table) -> Result<(), sqlx::Error> {
    let schema = table.schema.as_ref().map(Identifier::as_str);
    sqlx::query(
        "SELECT pg_advisory_xact_lock(
            hashtextextended('eventflow:' || COALESCE($1, current_schema()) || '.' || $2, 0))",
    )
    .bind(schema.map(str::to_owned))
    .bind(table.name.as_str())
    .execute(connection)
    .await
    .map(|_| ())
}

/// Looks first: who may not create schemas may still use one that is there.
///
/// Processes with other tables may want the same schema at once. Only they wait here, not those
/// that find it: the adoption of a large table must not keep the others from starting.
async fn create_schema(connection: &mut PgConnection, table: &Table) -> Result<(), sqlx::Error> {
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

/// The table that records what was applied.
fn history(table: &Table) -> String {
    let name = format!("\"{}_migrations\"", table.name.as_str());
    match &table.schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name,
    }
}

async fn is_recorded(connection: &mut PgConnection, table: &Table) -> Result<bool, sqlx::Error> {
    let history = history(table);
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(history.clone())
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        connection
            .execute(AssertSqlSafe(format!(
                "CREATE TABLE {history} (
                     version INTEGER PRIMARY KEY,
                     applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
                 )"
            )))
            .await?;
        return Ok(false);
    }
    let sql = format!("SELECT COALESCE(MAX(version), 0) FROM {history}");
    let version: i32 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?;
    Ok(version >= VERSION)
}

async fn record(connection: &mut PgConnection, table: &Table) -> Result<(), sqlx::Error> {
    let sql = format!("INSERT INTO {} (version) VALUES ($1)", history(table));
    let recorded = sqlx::query(AssertSqlSafe(sql)).bind(VERSION);
    recorded.execute(connection).await.map(|_| ())
}

fn owner_needed(table: &Table) -> Error {
    Error::new(
        ErrorKind::Schema,
        format!(
            "table {table} is the Python package's; name the service that owns its rows with `PgInbox::builder(…).consumer(\"…\")`: the group of its stream"
        ),
    )
}
