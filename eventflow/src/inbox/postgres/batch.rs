//! Batches on their way into a statement: one array for each column.

use super::{row::refuses, sql::Statements};
use crate::{
    database::{
        columns::{micros, storable},
        postgres::parameters::Parameters,
        sql::Sql,
    },
    inbox::{
        Arrival, Holder, Lease, OrderPolicy, Settlement, Status,
        columns::Entering,
        place::{Placed, Wait},
    },
};

/// What the insert takes: the columns, then consumer, holder and lease. Those to run enter as `run_as`.
///
/// Two nodes may insert the same events at once, read in different orders. They do so in the order of
/// the event ids, or each would wait for the other.
pub(super) fn arrivals(
    arrivals: &[Arrival],
    run_as: Status,
    holder: &Holder,
) -> Result<Parameters, sqlx::Error> {
    let mut sorted: Vec<&Arrival> = arrivals.iter().collect();
    // Stable: of two entries with one id, the first enters.
    sorted.sort_by_key(|arrival| &arrival.envelope.metadata().event_id);
    let entering: Vec<_> = sorted.iter().map(|a| Entering::of(a, run_as)).collect();
    let waits =
        |parameters: &mut Parameters| parameters.array(entering.iter().map(|row| row.is_parked));
    columns(&sorted, &entering, waits, holder)
}

/// As [`arrivals`], then the positions.
pub(super) fn placed(placed: &[Placed], holder: &Holder) -> Result<Parameters, sqlx::Error> {
    let mut sorted: Vec<&Placed> = placed.iter().collect();
    sorted.sort_by_key(|placed| &placed.arrival.envelope.metadata().event_id);
    let arrivals: Vec<_> = sorted.iter().map(|placed| &placed.arrival).collect();
    let entering = arrivals.iter().map(|a| Entering::of(a, Status::Processing));
    let waits = |parameters: &mut Parameters| {
        parameters.array(sorted.iter().map(|placed| match placed.wait {
            Wait::Not => 0_i16,
            Wait::Parked => 1,
            Wait::Turn => 2,
        }))
    };
    let mut parameters = columns(&arrivals, &entering.collect::<Vec<_>>(), waits, holder)?;
    parameters.array(sorted.iter().map(|placed| placed.position))?;
    Ok(parameters)
}

fn columns(
    arrivals: &[&Arrival],
    entering: &[Entering<'_>],
    waits: impl FnOnce(&mut Parameters) -> Result<(), sqlx::Error>,
    holder: &Holder,
) -> Result<Parameters, sqlx::Error> {
    let metadata = || arrivals.iter().map(|arrival| arrival.envelope.metadata());
    let mut parameters = Parameters::default();
    parameters.array(arrivals.iter().map(|arrival| arrival.id))?;
    parameters.array(metadata().map(|event| event.event_id.as_str()))?;
    parameters.array(entering.iter().map(|row| row.stream_id))?;
    parameters.array(metadata().map(|event| event.event_type.as_str()))?;
    parameters.array(metadata().map(|event| event.aggregate_id))?;
    parameters.array(metadata().map(|event| event.correlation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.causation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.occurred_on))?;
    parameters.array(
        arrivals
            .iter()
            .map(|arrival| arrival.envelope.payload().as_str()),
    )?;
    parameters.array(entering.iter().map(|row| row.headers.as_deref()))?;
    parameters.array(arrivals.iter().map(|arrival| arrival.raw.as_deref()))?;
    parameters.array(entering.iter().map(|row| row.status.as_str()))?;
    waits(&mut parameters)?;
    parameters.array(arrivals.iter().map(|arrival| arrival.max_retries))?;
    parameters.array(entering.iter().map(|row| row.error_message.as_deref()))?;
    parameters.value(holder.consumer.as_str())?;
    parameters.value(holder.name.as_str())?;
    parameters.value(micros(holder.lease))?;
    Ok(parameters)
}

/// Moves the payloads that the column does not take to where their bytes are kept.
pub(super) fn keep_refused_as_bytes(arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let keep = |arrival: Arrival| {
        if arrival.raw.is_none() && refuses(arrival.envelope.payload().as_str()) {
            arrival.with_payload_as_bytes()
        } else {
            arrival
        }
    };
    arrivals.into_iter().map(keep).collect()
}

/// The claims: their rows, and their tokens.
pub(super) fn leases(leases: &[Lease]) -> Result<Parameters, sqlx::Error> {
    let mut parameters = Parameters::default();
    parameters.array(leases.iter().map(|lease| lease.id))?;
    parameters.array(leases.iter().map(|lease| lease.token))?;
    Ok(parameters)
}

/// The statement that settles these rows, and what it takes. In order, it takes the lock as well.
pub(super) fn settling<'s>(
    statements: &'s Statements,
    order: Option<OrderPolicy>,
    settlements: &[Settlement],
    holder: &Holder,
) -> (&'s Sql, Result<Parameters, sqlx::Error>) {
    let mut states = settlements.iter().map(|settlement| settlement.status);
    let (sql, parameters) = if states.all(|status| status == Status::Processed) {
        let claims: Vec<Lease> = settlements
            .iter()
            .map(|settlement| settlement.lease)
            .collect();
        let sql = match order {
            None => &statements.settle_processed,
            Some(_) => &statements.settle_processed_in_order,
        };
        (sql, leases(&claims))
    } else {
        let sql = match order {
            None => &statements.settle,
            Some(OrderPolicy::Skip) => &statements.settle_to_skip,
            Some(OrderPolicy::Block | OrderPolicy::Park) => &statements.settle_in_order,
        };
        (sql, next_states(settlements, holder))
    };
    if order.is_none() {
        return (sql, parameters);
    }
    let with_consumer = parameters.and_then(|mut parameters| {
        parameters.value(holder.consumer.as_str())?;
        Ok(parameters)
    });
    (sql, with_consumer)
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
