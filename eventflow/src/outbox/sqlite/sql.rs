//! The statements, written once per outbox for its table's name.

use crate::{
    database::{identifier::Identifier, sql::Sql, sqlite::NOW},
    outbox::table::LEASE,
};

/// What [`envelope`](super::row::envelope) reads.
const COLUMNS: &str = "outbox.id, outbox.event_id, outbox.event_type, outbox.aggregate_id, \
    outbox.correlation_id, outbox.causation_id, outbox.occurred_on, outbox.payload, outbox.headers";

/// The statements of an outbox's relay and of who looks at its table.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) mark: Sql,
    pub(super) delete: Sql,
    pub(super) refuse: Sql,
    pub(super) fetch: Sql,
    pub(super) purge: Sql,
    pub(super) counts: Sql,
    pub(super) dead_letters: Sql,
    pub(super) requeue: Sql,
    pub(super) discard: Sql,
}

impl Statements {
    pub(super) fn new(table: &Identifier) -> Self {
        let leases = format!("\"{}_leases\"", table.as_str());
        let sql = |template: &str| {
            let text = template
                .replace("{term}", TERM)
                .replace("{columns}", COLUMNS)
                .replace("{table}", &table.to_string())
                .replace("{leases}", &leases)
                .replace("{lease}", LEASE)
                .replace(
                    "{due_since}",
                    "COALESCE(outbox.publish_at, outbox.created_at)",
                )
                .replace("{now}", NOW);
            Sql::new(text)
        };
        Self {
            mark: sql(MARK),
            delete: sql(DELETE),
            refuse: sql(REFUSE),
            fetch: sql(FETCH),
            purge: sql(PURGE),
            counts: sql(COUNTS),
            dead_letters: sql(DEAD_LETTERS),
            requeue: sql(REQUEUE),
            discard: sql(DISCARD),
        }
    }
}

/// `$1` holder, `$2` term: whether it lasts.
const TERM: &str = "lease.name = '{lease}' AND lease.holder = $1 AND lease.term = $2";

/// `$1` holder, `$2` term, `$3` the rows that the broker has and their entries, a list of pairs.
const MARK: &str = "
    UPDATE {table} SET
        status = 'published', published_at = {now}, stream_id = done.value ->> 1,
        error_message = NULL
    FROM json_each($3) AS done, {leases} AS lease
    WHERE {table}.id = done.value ->> 0 AND {table}.status = 'pending' AND {term}";

/// As [`MARK`], and keeps nothing.
const DELETE: &str = "
    DELETE FROM {table} WHERE status = 'pending'
        AND id IN (SELECT done.value ->> 0 FROM json_each($3) AS done)
        AND EXISTS (SELECT 1 FROM {leases} AS lease WHERE {term})";

/// `$1` holder, `$2` term, `$3` the rows that the broker refuses and why, a list of pairs.
const REFUSE: &str = "
    UPDATE {table} SET
        status = 'dead_letter', error_message = refused.value ->> 1, last_error_at = {now}
    FROM json_each($3) AS refused, {leases} AS lease
    WHERE {table}.id = refused.value ->> 0 AND {table}.status = 'pending' AND {term}";

/// `$1` holder, `$2` term, `$3` the rows that are on their way, a list, `$4` events, `$5` bytes. No row if
/// the term is over; else at least one, with the next time of a delayed event and perhaps no event.
const FETCH: &str = "
    WITH clock AS MATERIALIZED (SELECT {now} AS now),
    delayed AS MATERIALIZED (
        SELECT outbox.* FROM {table} AS outbox
        WHERE outbox.status = 'pending' AND outbox.publish_at <= (SELECT now FROM clock)
            AND outbox.id NOT IN (SELECT value FROM json_each($3))
        ORDER BY outbox.publish_at, outbox.id LIMIT ($4 + 1) / 2),
    prompt AS MATERIALIZED (
        SELECT outbox.* FROM {table} AS outbox
        WHERE outbox.status = 'pending' AND outbox.publish_at IS NULL
            AND outbox.id NOT IN (SELECT value FROM json_each($3))
        ORDER BY outbox.id LIMIT $4 - (SELECT COUNT(*) FROM delayed)),
    due AS (
        SELECT due.*, SUM(due.payload_bytes) OVER (
            PARTITION BY due.publish_at IS NULL ORDER BY due.publish_at, due.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
        FROM (SELECT * FROM delayed UNION ALL SELECT * FROM prompt) AS due)
    SELECT (
            SELECT MIN(later.publish_at) FROM {table} AS later
            WHERE later.status = 'pending' AND later.publish_at > clock.now) - clock.now AS next_due,
        {columns}, clock.now - {due_since} AS waited
    FROM {leases} AS lease, clock LEFT JOIN (
        SELECT * FROM due WHERE COALESCE(due.bytes_before, 0) < $5) AS outbox
    WHERE {term} ORDER BY outbox.publish_at NULLS LAST, outbox.id";

/// `$1` holder, `$2` term, `$3` and `$4` the ages of published events and dead letters, `$5` limit.
const PURGE: &str = "
    DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM {leases} AS lease WHERE {term}) AND id IN (
        SELECT id FROM (
            SELECT id FROM {table} WHERE status = 'published' AND published_at < {now} - $3
            ORDER BY published_at LIMIT $5)
        UNION ALL
        SELECT id FROM (
            SELECT id FROM {table} WHERE status = 'dead_letter' AND last_error_at < {now} - $4
            ORDER BY last_error_at LIMIT $5)
        LIMIT $5)";

const COUNTS: &str = "
    SELECT
        COUNT(*) FILTER (WHERE due), COUNT(*) FILTER (WHERE status = 'pending' AND NOT due),
        COUNT(*) FILTER (WHERE status = 'published'),
        COUNT(*) FILTER (WHERE status = 'dead_letter'),
        {now} - MIN(since) FILTER (WHERE due)
    FROM (
        SELECT outbox.status, {due_since} AS since,
            outbox.status = 'pending' AND COALESCE(outbox.publish_at <= {now}, TRUE) AS due
        FROM {table} AS outbox)";

/// `$1` limit.
const DEAD_LETTERS: &str = "
    SELECT {columns}, outbox.error_message,
        COALESCE(outbox.last_error_at, outbox.created_at) AS died_at
    FROM {table} AS outbox WHERE outbox.status = 'dead_letter'
    ORDER BY outbox.last_error_at DESC, outbox.id DESC LIMIT $1";

/// `$1` the rows, a list.
const REQUEUE: &str = "
    UPDATE {table} SET status = 'pending', error_message = NULL
    WHERE status = 'dead_letter' AND id IN (SELECT value FROM json_each($1))";

/// `$1` the rows, a list.
const DISCARD: &str = "
    DELETE FROM {table}
    WHERE status = 'dead_letter' AND id IN (SELECT value FROM json_each($1))";
