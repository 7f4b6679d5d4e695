//! Writes the next states of rows.
//!
//! Most often all are processed: then the database has little to take apart, and that all claims held, a
//! number says.

use sqlx::PgConnection;

use super::{row::settled, sql::Statements};
use crate::{
    database::{
        columns::{micros, storable},
        postgres::parameters::Parameters,
        sql::Sql,
    },
    inbox::{Holder, Lease, OrderPolicy, Settlement, Status},
};

/// Whether rows are all to be processed.
pub(super) fn all_processed(settlements: &[Settlement]) -> bool {
    let mut states = settlements.iter().map(|settlement| settlement.status);
    states.all(|status| status == Status::Processed)
}

/// The claims of rows.
pub(super) fn claims(settlements: &[Settlement]) -> Vec<Lease> {
    let claims = settlements.iter().map(|settlement| settlement.lease);
    claims.collect()
}

/// Settles rows that are all to be processed; answers how many claims held.
pub(super) async fn settle_processed(
    connection: &mut PgConnection,
    statements: &Statements,
    claims: &[Lease],
) -> Result<usize, sqlx::Error> {
    let settle = leases(claims)?.of(&statements.settle_processed);
    let held = settle.execute(connection).await?.rows_affected();
    Ok(usize::try_from(held).unwrap_or(usize::MAX))
}

/// As [`settle_processed`], by a statement that commits by itself; answers the claims that held.
pub(super) async fn settle_processed_alone(
    connection: &mut PgConnection,
    statements: &Statements,
    claims: Vec<Lease>,
) -> Result<Vec<Lease>, sqlx::Error> {
    let held = settle_processed(connection, statements, &claims).await?;
    if held == claims.len() {
        return Ok(claims);
    }
    if held == 0 {
        return Ok(Vec::new());
    }
    let mut find = leases(&claims)?;
    find.value(i64::try_from(held).unwrap_or(i64::MAX))?;
    let find = find.of(&statements.last_settled);
    settled(&find.fetch_all(connection).await?)
}

/// Settles rows; answers the claims that held. In order, it takes the lock as well.
pub(super) async fn settle(
    connection: &mut PgConnection,
    statements: &Statements,
    order: Option<OrderPolicy>,
    holder: &Holder,
    settlements: &[Settlement],
) -> Result<Vec<Lease>, sqlx::Error> {
    let (sql, mut parameters) = match order {
        None => (&statements.settle, next_states(settlements, holder)?),
        Some(_) if all_processed(settlements) => {
            let sql = &statements.settle_processed_in_order;
            (sql, leases(&claims(settlements))?)
        }
        Some(policy) => {
            let sql = settle_in_order(statements, policy);
            (sql, next_states(settlements, holder)?)
        }
    };
    if order.is_some() {
        parameters.value(holder.consumer.as_str())?;
    }
    settled(&parameters.of(sql).fetch_all(connection).await?)
}

fn settle_in_order(statements: &Statements, policy: OrderPolicy) -> &Sql {
    match policy {
        OrderPolicy::Skip => &statements.settle_to_skip,
        OrderPolicy::Block | OrderPolicy::Park => &statements.settle_in_order,
    }
}

/// What a statement takes that names claims: their rows, and their tokens.
pub(super) fn leases(leases: &[Lease]) -> Result<Parameters, sqlx::Error> {
    let mut parameters = Parameters::default();
    parameters.array(leases.iter().map(|lease| lease.id))?;
    parameters.array(leases.iter().map(|lease| lease.token))?;
    Ok(parameters)
}

/// The claims, their next states, then holder and lease.
pub(super) fn next_states(
    settlements: &[Settlement],
    holder: &Holder,
) -> Result<Parameters, sqlx::Error> {
    let each = || settlements.iter();
    let mut parameters = Parameters::default();
    parameters.array(each().map(|settlement| settlement.lease.id))?;
    parameters.array(each().map(|settlement| settlement.lease.token))?;
    parameters.array(each().map(|settlement| settlement.status.as_str()))?;
    parameters.array(each().map(|settlement| settlement.retry_count))?;
    parameters.array(each().map(|settlement| micros(settlement.delay)))?;
    parameters.array(each().map(|settlement| settlement.error_message.as_deref().map(storable)))?;
    parameters.value(holder.name.as_str())?;
    parameters.value(micros(holder.lease))?;
    Ok(parameters)
}
