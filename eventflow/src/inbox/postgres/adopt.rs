//! Adopts a table of the Python package while its service goes on, and gives a table its order.
//!
//! Columns are added and constraints exchanged in two short transactions. Between them the indexes are
//! built beside the table's writers, outside of any transaction; the history says that the adoption has
//! begun, so that another process goes on where this one dies.

use std::{error::Error as _, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    check::check_owner,
    connection,
    index::{Index, indexes, order_indexes},
    migrate::{Found, UNORDERED, VERSION, finish, found, named, order_sql, unprepared},
};
use crate::{
    database::{
        error::code,
        postgres::{
            history,
            migration_lock::{self, BEGIN, Lifted, Pauses, lift_limits, restore_limits},
            table::Table,
        },
    },
    error::{Error, ErrorKind},
    fail_point::{self, Point},
};

const COLUMNS: &str = include_str!("../../../migrations/postgres/0001_adopt_columns.sql");
const UNIQUE: &str = include_str!("../../../migrations/postgres/0001_adopt_unique.sql");

/// How long a transaction waits for the table, and with it everyone who comes after.
const PATIENCE: &str = "SET LOCAL lock_timeout = '1s'";

/// Takes the table one version further, unless the others have done so.
pub(super) async fn adopt(
    pool: &PgPool,
    key: i64,
    table: &Table,
    consumer: Option<&str>,
) -> Result<(), Error> {
    // The lock is that of a transaction, and indexes are built outside of one. Its connection is not
    // one of the pool's, which may have no second.
    let options = PgConnectOptions::clone(&pool.connect_options());
    let beside = PgPoolOptions::new().max_connections(1);
    let beside = beside.connect_lazy_with(options);
    let lock = migration_lock::begin(&beside, key).await;
    let mut lock = lock.map_err(|error| unprepared(table, error))?;
    let mut connection = connection(pool).await?;
    // Not back to the pool: what has the session's limits lifted.
    connection.close_on_drop();
    let adoption = Adoption { table, consumer };
    let adopted = adoption.run(&mut connection, &mut lock).await;
    // For a pooler, whose session goes on.
    if let Err(error) = restore_limits(&mut connection).await {
        tracing::debug!(%table, %error, "the session that adopted the table keeps its limits lifted");
    }
    lock.rollback().await.unwrap_or_default();
    beside.close().await;
    adopted
}

struct Adoption<'a> {
    table: &'a Table,
    consumer: Option<&'a str>,
}

/// What needs the table for itself.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    End,
    BeginOrder,
    EndOrder,
}

impl Step {
    fn begins_with(self) -> Found {
        match self {
            Self::Begin => Found::Pythons,
            Self::End => Found::HalfAdopted,
            Self::BeginOrder => Found::Unordered,
            Self::EndOrder => Found::HalfOrdered,
        }
    }
}

impl Adoption<'_> {
    async fn run(
        &self,
        connection: &mut PgConnection,
        lock: &mut PgConnection,
    ) -> Result<(), Error> {
        let failed = |error| unprepared(self.table, error);
        let lifted = lift_limits(connection, Lifted::InSession).await;
        lifted.map_err(failed)?;
        let (begin, end, indexes) = match found(connection, self.table).await? {
            Found::Pythons => (Some(Step::Begin), Step::End, indexes(self.table)),
            Found::HalfAdopted => (None, Step::End, indexes(self.table)),
            Found::Unordered => (
                Some(Step::BeginOrder),
                Step::EndOrder,
                order_indexes(self.table),
            ),
            Found::HalfOrdered => (None, Step::EndOrder, order_indexes(self.table)),
            Found::Nothing | Found::Unrecorded | Found::Recorded => return Ok(()),
        };
        if let Some(begin) = begin {
            if !self.exclusively(connection, lock, begin, &indexes).await? {
                return Ok(());
            }
        } else if let Some(consumer) = self.consumer {
            check_owner(connection, self.table, consumer).await?;
        }
        for index in &indexes {
            // Who has lost the lock must not drop what another builds.
            lock.ping().await.map_err(failed)?;
            let built = index.build(connection, self.table).await;
            built.map_err(failed)?;
        }
        fail_point::reach(Point::InAdoption).await?;
        self.exclusively(connection, lock, end, &indexes).await?;
        Ok(())
    }

    /// Runs a short transaction that has the table for itself.
    ///
    /// While it waits for who uses the table, everyone who comes after waits for it. So it waits for
    /// a moment only, and tries again when the others have had their turn. Answers whether the step was
    /// still to be done.
    async fn exclusively(
        &self,
        connection: &mut PgConnection,
        lock: &mut PgConnection,
        step: Step,
        indexes: &[Index],
    ) -> Result<bool, Error> {
        let table = self.table;
        let failed = |error| unprepared(table, error);
        let mut pauses = Pauses {
            next: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        };
        loop {
            // Another process may go on where this one has lost the lock.
            lock.ping().await.map_err(failed)?;
            let mut transaction = connection.begin_with(BEGIN).await.map_err(failed)?;
            let lifted = lift_limits(&mut transaction, Lifted::InTransaction).await;
            lifted.map_err(failed)?;
            transaction.execute(PATIENCE).await.map_err(failed)?;
            if found(&mut transaction, table).await? != step.begins_with() {
                return Ok(false);
            }
            let done = match step {
                Step::Begin => self.begin(&mut transaction, indexes).await,
                Step::End => self.end(&mut transaction).await,
                Step::BeginOrder => self.begin_order(&mut transaction, indexes).await,
                Step::EndOrder => self.end_order(&mut transaction).await,
            };
            match done {
                Ok(()) => return transaction.commit().await.map(|()| true).map_err(failed),
                Err(error) if is_in_use(&error) => {
                    transaction.rollback().await.map_err(failed)?;
                    tracing::warn!(
                        %table,
                        again_in = ?pauses.next,
                        "a long transaction keeps the table from being adopted"
                    );
                    pauses.pause().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits together: the columns, and the record that the adoption has begun.
    async fn begin(&self, connection: &mut PgConnection, indexes: &[Index]) -> Result<(), Error> {
        let table = self.table;
        let failed = |error| unprepared(table, error);
        let owner = self.consumer.ok_or_else(|| owner_needed(table))?;
        check_names(connection, table, indexes).await?;
        let owner = format!("'{}'", owner.replace('\'', "''"));
        // The owner's name comes last: nothing in it is a place for another name.
        let columns = named(COLUMNS, table).replace("{consumer}", &owner);
        let added = connection.execute(AssertSqlSafe(columns)).await;
        added.map_err(failed)?;
        let recorded = history::record(connection, table, history::BEGUN).await;
        recorded.map_err(failed)
    }

    /// Commits together: what keeps events unique from here on, and the record of the adoption.
    async fn end(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let failed = |error| unprepared(self.table, error);
        let unique = AssertSqlSafe(named(UNIQUE, self.table));
        connection.execute(unique).await.map_err(failed)?;
        let recorded = history::record(connection, self.table, UNORDERED).await;
        recorded.map_err(failed)?;
        if let Some(consumer) = self.consumer {
            check_owner(connection, self.table, consumer).await?;
        }
        fail_point::reach(Point::InMigration).await
    }

    /// Commits together: what an order needs but for the indexes, and the record of the version before.
    async fn begin_order(
        &self,
        connection: &mut PgConnection,
        indexes: &[Index],
    ) -> Result<(), Error> {
        let table = self.table;
        let failed = |error| unprepared(table, error);
        check_names(connection, table, indexes).await?;
        let order = AssertSqlSafe(order_sql(table));
        connection.execute(order).await.map_err(failed)?;
        // A table that was made from `schema_sql()` may have none.
        if history::version(connection, table).await.map_err(failed)? != Some(UNORDERED) {
            let recorded = history::record(connection, table, UNORDERED).await;
            recorded.map_err(failed)?;
        }
        Ok(())
    }

    /// Commits the record that the table has its order.
    async fn end_order(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let recorded = history::record(connection, self.table, VERSION).await;
        recorded.map_err(|error| unprepared(self.table, error))?;
        finish(connection, self.table, self.consumer).await
    }
}

/// Checks that the indexes' names are free.
async fn check_names(
    connection: &mut PgConnection,
    table: &Table,
    indexes: &[Index],
) -> Result<(), Error> {
    let taken = taken(connection, table, indexes).await;
    match taken.map_err(|error| unprepared(table, error))? {
        Some(name) => Err(name_taken(table, &name)),
        None => Ok(()),
    }
}

/// One of the names that something else has. What is found under them later is ours.
async fn taken(
    connection: &mut PgConnection,
    table: &Table,
    indexes: &[Index],
) -> Result<Option<String>, sqlx::Error> {
    let names: Vec<_> = indexes.iter().map(|index| index.name.clone()).collect();
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
         WHERE relname = ANY($2)
            AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($1))
            AND (indrelid = to_regclass($1) AND NOT indisvalid) IS NOT TRUE
         LIMIT 1",
    )
    .bind(table.to_string())
    .bind(names)
    .fetch_optional(connection)
    .await
}

/// Whether the table was not to be had: no lock in time, or a deadlock with who has one.
fn is_in_use(error: &Error) -> bool {
    let source = error.source();
    let source = source.and_then(|source| source.downcast_ref::<sqlx::Error>());
    let code = source.and_then(code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

fn owner_needed(table: &Table) -> Error {
    Error::new(
        ErrorKind::Schema,
        format!(
            "table {table} is the Python package's; name the service that owns its rows with `PgInbox::builder(…).consumer(\"…\")`: the group of its stream"
        ),
    )
}

fn name_taken(table: &Table, name: &str) -> Error {
    Error::new(
        ErrorKind::Schema,
        format!(
            "`{name}` is to be an index of table {table}, and is something else; rename what has this name"
        ),
    )
}
