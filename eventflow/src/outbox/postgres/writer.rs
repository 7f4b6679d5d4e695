//! Writes events down, in a transaction of whoever publishes them.

use std::sync::{Arc, LazyLock};

use sqlx::PgConnection;

use crate::{
    database::{
        columns::{headers_of, micros},
        identifier::Identifier,
        postgres::{parameters::Parameters, table::Table},
        sql::Sql,
    },
    outbox::{
        TABLE,
        buffer::{Outgoing, When},
    },
};

/// `$1` to `$10` the events, an array for each column. Their ids keep their order.
const INSERT: &str = "
    INSERT INTO {table} (
        event_id, event_type, aggregate_id, correlation_id, causation_id, occurred_on, payload,
        payload_bytes, headers, publish_at)
    SELECT
        event_id, event_type, aggregate_id, correlation_id, causation_id, occurred_on,
        payload::json, octet_length(payload), headers::jsonb,
        COALESCE(publish_at, clock_timestamp() + delay * INTERVAL '1 microsecond')
    FROM unnest(
        $1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
        $8::text[], $9::timestamptz[], $10::bigint[]) WITH ORDINALITY AS outgoing(
        event_id, event_type, aggregate_id, correlation_id, causation_id, occurred_on, payload,
        headers, publish_at, delay, place)
    ORDER BY place";

/// As [`INSERT`], and tells who listens, when the transaction commits. Postgres tells them once,
/// however often a transaction says so.
const INSERT_AND_NOTIFY: &str = "
    WITH written AS ({insert} RETURNING id)
    SELECT pg_notify('{channel}', '') FROM (SELECT FROM written LIMIT 1) AS one";

/// The statement that writes events down.
#[expect(unnameable_types, reason = "only sealed traits name it")]
#[derive(Debug)]
pub struct Writer {
    insert: Sql,
}

impl Writer {
    pub(crate) fn new(table: &Table, notify: bool) -> Self {
        let insert = INSERT.replace("{table}", &table.to_string());
        let insert = if notify {
            INSERT_AND_NOTIFY
                .replace("{insert}", &insert)
                .replace("{channel}", &channel(table))
        } else {
            insert
        };
        Self {
            insert: Sql::new(insert),
        }
    }

    /// The one for the table of the default name, which is found by the search path.
    pub(crate) fn of_default_table() -> Arc<Self> {
        static WRITER: LazyLock<Arc<Writer>> = LazyLock::new(|| {
            let table = Table {
                schema: None,
                name: Identifier::constant(TABLE),
            };
            Arc::new(Writer::new(&table, true))
        });
        Arc::clone(&WRITER)
    }

    /// Writes events down, in their order.
    pub(crate) async fn write(
        &self,
        connection: &mut PgConnection,
        outgoing: &[Outgoing],
    ) -> Result<(), sqlx::Error> {
        let insert = parameters(outgoing)?.of(&self.insert);
        insert.execute(connection).await.map(|_| ())
    }
}

/// The channel on which a table's relays listen. One of another schema only wakes them in vain.
pub(crate) fn channel(table: &Table) -> String {
    format!("eventflow_{}", table.name.as_str())
}

fn parameters(outgoing: &[Outgoing]) -> Result<Parameters, sqlx::Error> {
    let metadata = || outgoing.iter().map(|each| each.envelope.metadata());
    let mut parameters = Parameters::default();
    parameters.array(metadata().map(|event| event.event_id.as_str()))?;
    parameters.array(metadata().map(|event| event.event_type.as_str()))?;
    parameters.array(metadata().map(|event| event.aggregate_id))?;
    parameters.array(metadata().map(|event| event.correlation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.causation_id.as_deref()))?;
    parameters.array(metadata().map(|event| event.occurred_on))?;
    parameters.array(outgoing.iter().map(|each| each.envelope.payload().as_str()))?;
    parameters.array(metadata().map(headers_of))?;
    parameters.array(outgoing.iter().map(|each| match each.when {
        When::At(time) => Some(time),
        When::Now | When::In(_) => None,
    }))?;
    parameters.array(outgoing.iter().map(|each| match each.when {
        When::In(delay) => Some(micros(delay)),
        When::Now | When::At(_) => None,
    }))?;
    Ok(parameters)
}
