//! The statements, written once per outbox for its table's name.

use crate::{
    database::{postgres::table::Table, sql::Sql},
    outbox::table::LEASE,
};

/// What [`envelope`](super::row::envelope) reads.
const COLUMNS: &str = "outbox.id, outbox.event_id, outbox.event_type, outbox.aggregate_id, \
    outbox.correlation_id, outbox.causation_id, outbox.occurred_on, outbox.payload::text, \
    outbox.headers::text";

/// The statements of an outbox's relay and of who looks at its table.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) mark: Sql,
    pub(super) delete: Sql,
    pub(super) purge: Sql,
    pub(super) counts: Sql,
    pub(super) dead_letters: Sql,
    pub(super) requeue: Sql,
    pub(super) discard: Sql,
}

impl Statements {
    pub(super) fn new(table: &Table) -> Self {
        let sql = |template: &str| {
            let text = template
                .replace("{term}", TERM)
                .replace("{columns}", COLUMNS)
                .replace("{table}", &table.to_string())
                .replace("{leases}", &table.beside("leases"))
                .replace("{lease}", LEASE)
                .replace(
                    "{due_since}",
                    "COALESCE(outbox.publish_at, outbox.created_at)",
                )
                .replace("{now}", "clock_timestamp()")
                .replace("{sent}", "statement_timestamp()");
            Sql::new(text)
        };
        Self {
            mark: sql(&ADVANCE.replace("{published}", MARK)),
            delete: sql(&ADVANCE.replace("{published}", DELETE)),
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

/// `$3` and `$4` the rows that the broker has, and their entries.
const MARK: &str = "
    UPDATE {table} AS outbox SET
        status = 'published', published_at = {now}, stream_id = done.stream_id, error_message = NULL
    FROM unnest($3::bigint[], $4::text[]) AS done(id, stream_id), term
    WHERE outbox.id = done.id AND outbox.status = 'pending'";

/// As [`MARK`], and keeps nothing.
const DELETE: &str = "
    DELETE FROM {table} AS outbox
    USING unnest($3::bigint[], $4::text[]) AS done(id, stream_id), term
    WHERE outbox.id = done.id AND outbox.status = 'pending'";

/// `$1` holder, `$2` term, `$3` and `$4` what the broker has, `$5` and `$6` what it refuses and why,
/// `$7` the rows that are marked here or on their way, `$8` events, `$9` bytes. No row if the term is over;
/// else at least one, with the next time of a delayed event and perhaps no event.
///
/// All parts see the table as it was, so what is marked here is among `$7`.
const ADVANCE: &str = "
    WITH term AS MATERIALIZED (
        SELECT (
            SELECT (EXTRACT(EPOCH FROM outbox.publish_at - {sent}) * 1000000)::bigint
            FROM {table} AS outbox
            WHERE outbox.status = 'pending' AND outbox.publish_at > {sent}
                AND outbox.publish_at < 'infinity'
            ORDER BY outbox.publish_at LIMIT 1) AS next_due
        FROM {leases} AS lease WHERE {term}),
    published AS ({published}),
    refused AS (
        UPDATE {table} AS outbox SET
            status = 'dead_letter', error_message = refused.reason, last_error_at = {now}
        FROM unnest($5::bigint[], $6::text[]) AS refused(id, reason), term
        WHERE outbox.id = refused.id AND outbox.status = 'pending'),
    delayed AS MATERIALIZED (
        SELECT outbox.* FROM {table} AS outbox
        WHERE outbox.status = 'pending' AND outbox.publish_at <= {sent}
            AND outbox.id <> ALL ($7::bigint[])
        ORDER BY outbox.publish_at, outbox.id LIMIT ($8 + 1) / 2),
    prompt AS MATERIALIZED (
        SELECT outbox.* FROM {table} AS outbox
        WHERE outbox.status = 'pending' AND outbox.publish_at IS NULL
            AND outbox.id <> ALL ($7::bigint[])
        ORDER BY outbox.id LIMIT $8 - (SELECT COUNT(*) FROM delayed)),
    due AS (
        SELECT due.*, SUM(due.payload_bytes) OVER (
            PARTITION BY due.publish_at IS NULL ORDER BY due.publish_at, due.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
        FROM (SELECT * FROM delayed UNION ALL SELECT * FROM prompt) AS due)
    SELECT term.next_due, {columns},
        (EXTRACT(EPOCH FROM {sent} - {due_since}) * 1000000)::bigint AS waited
    FROM term LEFT JOIN (
        SELECT * FROM due WHERE COALESCE(due.bytes_before, 0) < $9) AS outbox ON TRUE
    ORDER BY outbox.publish_at, outbox.id";

/// `$1` holder, `$2` term, `$3` and `$4` the ages of published events and dead letters, `$5` limit.
const PURGE: &str = "
    WITH term AS MATERIALIZED (SELECT FROM {leases} AS lease WHERE {term}),
    published AS MATERIALIZED (
        SELECT outbox.id FROM {table} AS outbox
        WHERE outbox.status = 'published'
            AND outbox.published_at < {sent} - $3 * INTERVAL '1 microsecond'
        ORDER BY outbox.published_at LIMIT $5 FOR UPDATE SKIP LOCKED),
    dead AS MATERIALIZED (
        SELECT outbox.id FROM {table} AS outbox
        WHERE outbox.status = 'dead_letter'
            AND outbox.last_error_at < {sent} - $4 * INTERVAL '1 microsecond'
        ORDER BY outbox.last_error_at LIMIT $5 FOR UPDATE SKIP LOCKED)
    DELETE FROM {table} WHERE EXISTS (SELECT FROM term) AND id IN (
        SELECT id FROM published UNION ALL SELECT id FROM dead LIMIT $5)";

const COUNTS: &str = "
    SELECT
        COUNT(*) FILTER (WHERE due), COUNT(*) FILTER (WHERE status = 'pending' AND NOT due),
        COUNT(*) FILTER (WHERE status = 'published'),
        COUNT(*) FILTER (WHERE status = 'dead_letter'),
        (EXTRACT(EPOCH FROM {sent} - MIN(since) FILTER (WHERE due)) * 1000000)::bigint
    FROM (
        SELECT outbox.status, {due_since} AS since,
            outbox.status = 'pending' AND COALESCE(outbox.publish_at <= {sent}, TRUE) AS due
        FROM {table} AS outbox) AS outbox";

/// `$1` limit.
const DEAD_LETTERS: &str = "
    SELECT {columns}, outbox.error_message,
        COALESCE(outbox.last_error_at, outbox.created_at) AS last_error_at
    FROM {table} AS outbox WHERE outbox.status = 'dead_letter'
    ORDER BY outbox.last_error_at DESC NULLS LAST, outbox.id DESC LIMIT $1";

/// `$1` the rows.
const REQUEUE: &str = "
    WITH dead AS MATERIALIZED (
        SELECT id FROM {table} WHERE status = 'dead_letter' AND id = ANY ($1)
        ORDER BY id FOR UPDATE)
    UPDATE {table} AS outbox SET status = 'pending', error_message = NULL
    FROM dead WHERE outbox.id = dead.id";

/// `$1` the rows.
const DISCARD: &str = "
    WITH dead AS MATERIALIZED (
        SELECT id FROM {table} WHERE status = 'dead_letter' AND id = ANY ($1)
        ORDER BY id FOR UPDATE)
    DELETE FROM {table} AS outbox USING dead WHERE outbox.id = dead.id";
