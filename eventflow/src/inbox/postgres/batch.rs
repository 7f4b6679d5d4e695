//! Batches on their way into a statement: one array for each column.

use super::{row::refuses, sql::Statements};
use crate::{
    database::{
        columns::{micros, storable},
        postgres::parameters::Parameters,
        sql::Sql,
    },
    inbox::{Arrival, Holder, Lease, Settlement, Status, columns::Entering},
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
    let metadata = || sorted.iter().map(|arrival| arrival.envelope.metadata());
    let entering: Vec<_> = sorted.iter().map(|a| Entering::of(a, run_as)).collect();

    let mut parameters = Parameters::default();
    parameters.array(sorted.iter().map(|arrival| arrival.id))?;
    parameters.array(metadata().map(|event| event.event_id.as_str()))?;
    parameters.array(entering.iter().map(|row| row.stream_id))?;
    parameters.array(metadata().map(|event| event.event_type.as_str()))?;
    parameters.array(metadata().map(|event| event.aggregate_id))?;
    parameters.array(metadata().map(|event| event.correlation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.causation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.occurred_on))?;
    parameters.array(
        sorted
            .iter()
            .map(|arrival| arrival.envelope.payload().as_str()),
    )?;
    parameters.array(entering.iter().map(|row| row.headers.as_deref()))?;
    parameters.array(sorted.iter().map(|arrival| arrival.raw.as_deref()))?;
    parameters.array(entering.iter().map(|row| row.status.as_str()))?;
    parameters.array(entering.iter().map(|row| row.is_parked))?;
    parameters.array(sorted.iter().map(|arrival| arrival.max_retries))?;
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

/// The statement that settles these rows, and what it takes.
pub(super) fn settling<'s>(
    statements: &'s Statements,
    settlements: &[Settlement],
    holder: &Holder,
) -> (&'s Sql, Result<Parameters, sqlx::Error>) {
    let mut states = settlements.iter().map(|settlement| settlement.status);
    if states.all(|status| status == Status::Processed) {
        let claims: Vec<Lease> = settlements
            .iter()
            .map(|settlement| settlement.lease)
            .collect();
        return (&statements.settle_processed, leases(&claims));
    }
    (&statements.settle, next_states(settlements, holder))
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
