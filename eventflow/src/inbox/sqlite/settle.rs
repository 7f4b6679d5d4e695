//! Writes the next states of rows.
//!
//! Most often all are processed: then the database has little to take apart, and that all claims held,
//! a number says. Each row that is answered crosses a thread.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use sqlx::{Connection as _, SqliteConnection};
use uuid::Uuid;

use super::{Statement, sql::Statements, statement};
use crate::{
    database::{
        columns::{micros, storable},
        sql::Sql,
        sqlite::values::json,
    },
    inbox::{Holder, Lease, Settlement, Status},
};

/// Settles rows that are all to be processed, or none of them; answers whether it did.
///
/// It is undone if one of the claims did not hold: which one, [`settle`]'s statement tells.
pub(super) async fn settle_processed_alone(
    connection: &mut SqliteConnection,
    settle: Statement,
    rows: usize,
) -> Result<bool, sqlx::Error> {
    // Commits together: all rows, if all are found.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = settle.execute(&mut *transaction).await?;
    if usize::try_from(done.rows_affected()) == Ok(rows) {
        transaction.commit().await?;
        return Ok(true);
    }
    transaction.rollback().await?;
    Ok(false)
}

/// The statement that settles rows which are all to be processed; `None` if one of them is not.
pub(super) fn settle_processed(
    statements: &Statements,
    settlements: &[Settlement],
) -> Result<Option<Statement>, sqlx::Error> {
    /// The tokens by rows.
    struct Claims<'s>(&'s [Settlement]);

    impl Serialize for Claims<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let leases = self.0.iter().map(|settlement| settlement.lease);
            serializer.collect_map(leases.map(|Lease { id, token }| (id, token)))
        }
    }

    let mut states = settlements.iter().map(|settlement| settlement.status);
    if !states.all(|status| status == Status::Processed) {
        return Ok(None);
    }
    let claims = json(&Claims(settlements))?;
    Ok(Some(statement(&statements.settle_processed).bind(claims)))
}

/// The statement that settles rows, or amends them.
pub(super) fn settle(
    sql: &Sql,
    holder: &Holder,
    settlements: &[Settlement],
) -> Result<Statement, sqlx::Error> {
    Ok(statement(sql)
        .bind(settlements_json(settlements)?)
        .bind(holder.name.clone())
        .bind(micros(holder.lease)))
}

/// Writes settlements for the statement that applies them.
fn settlements_json(settlements: &[Settlement]) -> Result<String, sqlx::Error> {
    #[derive(Serialize)]
    struct Settled<'a> {
        id: Uuid,
        token: i64,
        status: &'static str,
        retry_count: i32,
        delay: i64,
        error_message: Option<Cow<'a, str>>,
    }

    let settled: Vec<Settled<'_>> = settlements
        .iter()
        .map(|settlement| Settled {
            id: settlement.lease.id,
            token: settlement.lease.token,
            status: settlement.status.as_str(),
            retry_count: settlement.retry_count,
            delay: micros(settlement.delay),
            error_message: settlement.error_message.as_deref().map(storable),
        })
        .collect();
    json(&settled)
}
