//! Writes events down, in a transaction of whoever publishes them.

use std::sync::{Arc, LazyLock};

use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{
    database::{
        columns::{headers_of, micros},
        identifier::Identifier,
        sql::Sql,
        sqlite::{NOW, values::json},
    },
    outbox::{
        TABLE,
        buffer::{Outgoing, When},
    },
};

/// `$1` the events, a list. Their ids keep its order.
const INSERT: &str = "
    INSERT INTO {table} (
        event_id, event_type, aggregate_id, correlation_id, causation_id, occurred_on, payload,
        payload_bytes, headers, created_at, publish_at)
    SELECT
        value ->> 'event_id', value ->> 'event_type', value ->> 'aggregate_id',
        value ->> 'correlation_id', value ->> 'causation_id', value ->> 'occurred_on',
        value ->> 'payload', value ->> 'payload_bytes', value ->> 'headers', {now},
        COALESCE(value ->> 'publish_at', {now} + (value ->> 'delay'))
    FROM json_each($1) ORDER BY key";

/// The statement that writes events down.
#[expect(unnameable_types, reason = "only sealed traits name it")]
#[derive(Debug)]
pub struct Writer {
    insert: Sql,
}

impl Writer {
    pub(crate) fn new(table: &Identifier) -> Self {
        let insert = INSERT
            .replace("{table}", &table.to_string())
            .replace("{now}", NOW);
        Self {
            insert: Sql::new(insert),
        }
    }

    /// The one for the table of the default name.
    pub(crate) fn of_default_table() -> Arc<Self> {
        static WRITER: LazyLock<Arc<Writer>> =
            LazyLock::new(|| Arc::new(Writer::new(&Identifier::constant(TABLE))));
        Arc::clone(&WRITER)
    }

    /// Writes events down, in their order.
    pub(crate) async fn write(
        &self,
        connection: &mut SqliteConnection,
        outgoing: &[Outgoing],
    ) -> Result<(), sqlx::Error> {
        let rows: Vec<Row<'_>> = outgoing.iter().map(Row::of).collect();
        let insert = sqlx::query(self.insert.text()).bind(json(&rows)?);
        insert.execute(connection).await.map(|_| ())
    }
}

#[derive(Serialize)]
struct Row<'a> {
    event_id: &'a str,
    event_type: &'a str,
    aggregate_id: Uuid,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    occurred_on: i64,
    payload: &'a str,
    payload_bytes: usize,
    headers: Option<String>,
    publish_at: Option<i64>,
    delay: Option<i64>,
}

impl<'a> Row<'a> {
    fn of(outgoing: &'a Outgoing) -> Self {
        let metadata = outgoing.envelope.metadata();
        let (publish_at, delay) = match outgoing.when {
            When::Now => (None, None),
            When::At(time) => (Some(time.timestamp_micros()), None),
            When::In(delay) => (None, Some(micros(delay))),
        };
        Self {
            event_id: &metadata.event_id,
            event_type: &metadata.event_type,
            aggregate_id: metadata.aggregate_id,
            correlation_id: metadata.correlation_id.as_deref(),
            causation_id: metadata.causation_id.as_deref(),
            occurred_on: metadata.occurred_on.timestamp_micros(),
            payload: outgoing.envelope.payload().as_str(),
            payload_bytes: outgoing.envelope.payload().as_str().len(),
            headers: headers_of(metadata),
            publish_at,
            delay,
        }
    }
}
