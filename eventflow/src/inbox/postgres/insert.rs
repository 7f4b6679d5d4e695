//! Stores arrivals. That all of them have entered, a number says.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    insert_sql::Shape,
    jsonb::{Refused, written_by_jsonb},
    row::entered,
    sql::Statements,
};
use crate::{
    database::{columns::micros, postgres::parameters::Parameters},
    envelope::Payload,
    inbox::{
        Admission, Arrival, Holder, Status,
        columns::Entering,
        place::{Placed, Wait},
        record::Entered,
    },
};

/// Writes payloads as the column gives them back; those that it does not take move to where their bytes
/// are kept.
pub(super) fn as_stored(arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let stored = |arrival: Arrival| {
        if arrival.raw.is_some() {
            return arrival;
        }
        match written_by_jsonb(arrival.envelope.payload().as_str()) {
            Ok(payload) => Arrival {
                envelope: arrival
                    .envelope
                    .with_payload(Payload::from_checked(payload)),
                ..arrival
            },
            Err(Refused) => arrival.with_payload_as_bytes(),
        }
    };
    arrivals.into_iter().map(stored).collect()
}

/// Arrivals on their way into the table, and how they enter.
#[derive(Clone, Copy)]
pub(super) struct Insert<'a> {
    pub(super) statements: &'a Statements,
    pub(super) holder: &'a Holder,
    /// As what those enter that are to run.
    pub(super) run_as: Status,
}

impl Insert<'_> {
    /// Stores arrivals; one whose row is there already has entered.
    pub(super) async fn first(
        self,
        connection: &mut PgConnection,
        arrivals: &[Arrival],
    ) -> Result<Entered, sqlx::Error> {
        let statements = &self.statements.insert;
        let sorted = sorted(arrivals, |arrival| arrival);
        let shape = shape_of(&sorted);
        let insert = self.parameters(shape, &sorted)?.of(statements.of(shape));
        let stored = insert.execute(&mut *connection).await?.rows_affected();
        if usize::try_from(stored) == Ok(arrivals.len()) {
            return Ok(Entered::All);
        }
        let ids: Vec<Uuid> = arrivals.iter().map(|arrival| arrival.id).collect();
        let look = sqlx::query(statements.stored.text()).bind(ids);
        entered(&look.fetch_all(connection).await?)
    }

    /// Stores arrivals; one whose row is there already has not entered.
    pub(super) async fn again(
        self,
        connection: &mut PgConnection,
        arrivals: &[Arrival],
    ) -> Result<Entered, sqlx::Error> {
        let arrivals = sorted(arrivals, |arrival| arrival);
        let parameters = self.parameters(Shape::FULL, &arrivals)?;
        let insert = parameters.of(&self.statements.insert.again);
        entered(&insert.fetch_all(connection).await?)
    }

    /// As [`again`](Self::again), with places.
    pub(super) async fn in_order(
        self,
        connection: &mut PgConnection,
        placed: &[Placed],
    ) -> Result<Entered, sqlx::Error> {
        let placed = sorted(placed, |placed| &placed.arrival);
        let arrivals: Vec<_> = placed.iter().map(|placed| &placed.arrival).collect();
        let mut parameters = self.parameters(Shape::IN_ORDER, &arrivals)?;
        parameters.array(placed.iter().map(|placed| match placed.wait {
            Wait::Not => 0_i16,
            Wait::Parked => 1,
            Wait::Turn => 2,
        }))?;
        parameters.array(placed.iter().map(|placed| placed.position))?;
        let insert = parameters.of(&self.statements.insert.in_order);
        entered(&insert.fetch_all(connection).await?)
    }

    /// What the statement of this shape takes; in order, but for waits and positions.
    fn parameters(&self, shape: Shape, arrivals: &[&Arrival]) -> Result<Parameters, sqlx::Error> {
        let metadata = || arrivals.iter().map(|arrival| arrival.envelope.metadata());
        let entering = arrivals.iter().map(|a| Entering::of(a, self.run_as));
        let entering: Vec<_> = entering.collect();
        let mut parameters = Parameters::default();
        parameters.value(self.holder.consumer.as_str())?;
        parameters.value(self.holder.name.as_str())?;
        parameters.value(micros(self.holder.lease))?;
        if !shape.is_mixed {
            parameters.value(self.run_as.as_str())?;
            parameters.value(arrivals.first().map(|arrival| arrival.max_retries))?;
        }
        parameters.array(arrivals.iter().map(|arrival| arrival.id))?;
        parameters.array(metadata().map(|event| event.event_id.as_str()))?;
        parameters.array(entering.iter().map(|row| row.stream_id))?;
        parameters.array(metadata().map(|event| event.event_type.as_str()))?;
        parameters.array(metadata().map(|event| event.aggregate_id))?;
        parameters.array(metadata().map(|event| event.occurred_on))?;
        let payloads = arrivals.iter().map(|arrival| arrival.envelope.payload());
        parameters.array(payloads.map(Payload::as_str))?;
        if shape.is_traced {
            parameters.array(metadata().map(|event| event.correlation_id.as_deref()))?;
            parameters.array(metadata().map(|event| event.causation_id.as_deref()))?;
            parameters.array(entering.iter().map(|row| row.headers.as_deref()))?;
        }
        if shape.is_mixed {
            parameters.array(entering.iter().map(|row| row.status.as_str()))?;
            parameters.array(arrivals.iter().map(|arrival| arrival.max_retries))?;
            parameters.array(entering.iter().map(|row| row.error_message.as_deref()))?;
            parameters.array(arrivals.iter().map(|arrival| arrival.raw.as_deref()))?;
            if !shape.is_ordered {
                parameters.array(entering.iter().map(|row| row.is_parked))?;
            }
        }
        Ok(parameters)
    }
}

fn shape_of(arrivals: &[&Arrival]) -> Shape {
    let first = arrivals.first().map(|arrival| arrival.max_retries);
    Shape {
        is_traced: arrivals.iter().any(|arrival| {
            let metadata = arrival.envelope.metadata();
            metadata.correlation_id.is_some()
                || metadata.causation_id.is_some()
                || metadata.traceparent.is_some()
        }),
        is_mixed: arrivals.iter().any(|arrival| {
            arrival.admission != Admission::Run
                || arrival.raw.is_some()
                || Some(arrival.max_retries) != first
        }),
        is_ordered: false,
    }
}

/// Two nodes may insert the same events at once, read in different orders. They do so in the order of the
/// event ids, or each would wait for the other.
fn sorted<T>(arrivals: &[T], arrival: impl Fn(&T) -> &Arrival) -> Vec<&T> {
    let mut sorted: Vec<&T> = arrivals.iter().collect();
    // Stable: of two entries with one id, the first enters.
    sorted.sort_by(|a, b| event_id(arrival(a)).cmp(event_id(arrival(b))));
    sorted
}

fn event_id(arrival: &Arrival) -> &str {
    &arrival.envelope.metadata().event_id
}
