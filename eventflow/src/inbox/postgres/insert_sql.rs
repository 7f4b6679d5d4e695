//! The statements that store arrivals, one for each shape of a batch.
//!
//! Each array costs the server time for each row, also one of nulls, so what most events do not have is
//! left out where none of a batch has it.

use super::sql::sql;
use crate::database::{postgres::table::Table, sql::Sql};

/// What a batch has beside the columns that every event has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Ids of a conversation or a cause, or a trace context.
    pub(super) is_traced: bool,
    /// Rows that enter in different states, or with bytes beside their payload.
    pub(super) is_mixed: bool,
    /// Places of the events among those of their aggregates.
    pub(super) is_ordered: bool,
}

impl Shape {
    /// With all that an event without a place may have.
    pub(super) const FULL: Self = Self {
        is_traced: true,
        is_mixed: true,
        is_ordered: false,
    };

    pub(super) const IN_ORDER: Self = Self {
        is_ordered: true,
        ..Self::FULL
    };
}

/// The statements that store arrivals.
#[derive(Debug)]
pub(super) struct InsertStatements {
    plain: Sql,
    traced: Sql,
    mixed: Sql,
    traced_and_mixed: Sql,
    /// Answers which rows have entered.
    pub(super) again: Sql,
    /// As `again`.
    pub(super) in_order: Sql,
    /// The rows of a batch that are in the table.
    pub(super) stored: Sql,
}

impl InsertStatements {
    pub(super) fn new(table: &Table) -> Self {
        let insert = |is_traced, is_mixed| {
            let shape = Shape {
                is_traced,
                is_mixed,
                is_ordered: false,
            };
            insert(shape)
        };
        let answering = |insert: String| {
            format!(
                "WITH entered AS ({insert} RETURNING inbox.id) SELECT array_agg(id) FROM entered"
            )
        };
        let sql = |text: &str| sql(text, table);
        Self {
            plain: sql(&insert(false, false)),
            traced: sql(&insert(true, false)),
            mixed: sql(&insert(false, true)),
            traced_and_mixed: sql(&insert(true, true)),
            again: sql(&answering(self::insert(Shape::FULL))),
            in_order: sql(&answering(self::insert(Shape::IN_ORDER))),
            stored: sql(STORED),
        }
    }

    pub(super) fn of(&self, shape: Shape) -> &Sql {
        match (shape.is_traced, shape.is_mixed) {
            (false, false) => &self.plain,
            (true, false) => &self.traced,
            (false, true) => &self.mixed,
            (true, true) => &self.traced_and_mixed,
        }
    }
}

/// `$1` the rows.
const STORED: &str = "
    SELECT array_agg(arrival.id) FROM unnest($1::uuid[]) AS arrival(id) CROSS JOIN LATERAL (
        SELECT FROM {table} AS inbox WHERE inbox.id = arrival.id LIMIT 1) AS stored";

/// The columns of a shape.
struct Columns {
    /// Those of which there is an array, with its elements' type.
    arrays: Vec<(&'static str, &'static str)>,
    /// The columns beside those that every event has, and what they get.
    names: String,
    values: String,
}

impl Columns {
    fn of(shape: Shape) -> Self {
        let mut columns = Self {
            arrays: vec![
                ("id", "uuid"),
                ("event_id", "text"),
                ("stream_id", "text"),
                ("event_type", "text"),
                ("aggregate_id", "uuid"),
                ("occurred_on", "timestamptz"),
                ("payload", "text"),
            ],
            names: String::new(),
            values: String::new(),
        };
        if shape.is_traced {
            columns.array("correlation_id", "text");
            columns.array("causation_id", "text");
            columns.array("headers", "text");
            columns.add(
                "correlation_id, causation_id",
                "correlation_id, causation_id",
            );
            columns.add("headers", "headers::jsonb");
        }
        if shape.is_mixed {
            let (wait, of) = if shape.is_ordered {
                let wait = "CASE wait WHEN 1 THEN TIMESTAMPTZ 'infinity' WHEN 2 THEN {turn} END";
                (wait, "smallint")
            } else {
                ("CASE WHEN wait THEN TIMESTAMPTZ 'infinity' END", "boolean")
            };
            let died = "CASE status WHEN 'dead_letter' THEN statement_timestamp() END";
            columns.array("status", "text");
            columns.array("max_retries", "integer");
            columns.array("error_message", "text");
            columns.array("raw", "bytea");
            columns.array("wait", of);
            columns.add("error_message, raw", "error_message, raw");
            columns.add("next_retry_at", wait);
            columns.add("last_error_at", died);
        }
        if shape.is_ordered {
            columns.array("position", "bigint");
            columns.add("position", "position");
        }
        columns
    }

    fn array(&mut self, name: &'static str, of: &'static str) {
        self.arrays.push((name, of));
    }

    fn add(&mut self, names: &str, values: &str) {
        self.names += ", ";
        self.names += names;
        self.values += ", ";
        self.values += values;
    }
}

/// `$1` consumer, `$2` holder, `$3` lease; the state and the runs of all rows, or else two arrays of
/// them; and an array for each other column.
///
/// All rows of a batch have one time, so that their own ids keep the order in which they were read.
fn insert(shape: Shape) -> String {
    let Columns {
        arrays,
        names,
        values,
    } = Columns::of(shape);
    let (first, status, max_retries) = if shape.is_mixed {
        (4, "status", "max_retries")
    } else {
        (6, "$4::text", "$5::integer")
    };
    let typed = arrays.iter().zip(first..);
    let typed: Vec<_> = typed
        .map(|((_, of), number)| format!("${number}::{of}[]"))
        .collect();
    let named: Vec<_> = arrays.iter().map(|(name, _)| *name).collect();
    let (typed, named) = (typed.join(", "), named.join(", "));
    format!(
        "INSERT INTO {{table}} AS inbox (
            id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, consumer,
            received_at, status, max_retries, processed_at, locked_by, locked_until, lock_token{names})
        SELECT
            id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload::jsonb, $1,
            statement_timestamp(), {status}, {max_retries},
            CASE {status} WHEN 'processed' THEN statement_timestamp() END,
            CASE {status} WHEN 'processing' THEN $2 END,
            CASE {status} WHEN 'processing'
                THEN statement_timestamp() + $3 * INTERVAL '1 microsecond' END,
            CASE WHEN {status} IN ('processing', 'processed') THEN 1 ELSE 0 END{values}
        FROM unnest({typed}) AS arrival({named})
        ON CONFLICT (consumer, event_id) DO NOTHING"
    )
}
