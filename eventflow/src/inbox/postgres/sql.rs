//! The statements, written once per inbox for its table's name.
//!
//! Rows are found by `{sent}`, when the statement came: one time for the whole of it, where an
//! index can stop. They get `{now}`, the clock as it is when the row is written, so that no lease
//! begins before its row was found.

use super::{
    insert_sql::InsertStatements,
    turn::{IDLE, TURN, TurnStatements},
};
use crate::{
    database::{postgres::table::Table, sql::Sql},
    envelope::wire::MALFORMED,
    inbox::OrderPolicy,
};

/// What [`record`](super::row::record) reads.
const COLUMNS: &str = "inbox.id, inbox.lock_token, inbox.event_id, inbox.stream_id, inbox.event_type, \
    inbox.aggregate_id, inbox.correlation_id, inbox.causation_id, inbox.occurred_on, inbox.payload::text, \
    inbox.headers::text, inbox.raw, inbox.retry_count, inbox.max_retries";

/// The state of a row that is found by its id. Spelled so that the planner does not think of the index
/// on leases: it believes that almost no row is leased, and would try each that is with each claim.
const STATUS_OF_CLAIMED: &str = "inbox.status || ''";

/// Holds for every claim, and makes the planner expect few of them: it then finds each by its id, also
/// in a plan that was made while the table was small.
fn by_id(claims: &str) -> String {
    format!("{claims}.token BETWEEN 0 AND {}", i64::MAX)
}

/// Whether a lapse in the recovery lane was the last that a row may have.
const SPENT: &str =
    "inbox.recovering AND inbox.max_retries > 0 AND inbox.retry_count + 1 >= inbox.max_retries";

/// An event with a place that is not done. Spelled as the index does, and so are the next two.
const UNFINISHED: &str =
    "inbox.position > 0 AND inbox.status IN ('pending', 'processing', 'failed')";

/// Whether a row waits for its turn: 1 or 0.
const WAITS: &str = "(CASE inbox.next_retry_at WHEN {turn} THEN 1 ELSE 0 END)";

/// A dead letter that holds up the events behind it. Its state is spelled so that only the index has it that
/// knows dead letters by their aggregates: the planner would else take the one that knows their age.
const HOLDS: &str =
    "inbox.position > 0 AND inbox.status || '' = 'dead_letter' AND inbox.next_retry_at IS NULL";

/// Writes a statement for a table.
pub(super) fn sql(template: &str, table: &Table) -> Sql {
    let text = template
        .replace("{table}", &table.to_string())
        .replace("{leases}", &table.beside("leases"))
        .replace("{positions}", &table.beside("positions"))
        .replace("{columns}", COLUMNS)
        .replace("{now}", "clock_timestamp()")
        .replace("{sent}", "statement_timestamp()")
        .replace("{due}", "COALESCE(inbox.next_retry_at, inbox.received_at)")
        .replace("{lapse}", "COALESCE(inbox.locked_until, '-infinity')")
        .replace("{by_id:claim}", &by_id("claim"))
        .replace("{by_id:settled}", &by_id("settled"))
        .replace("{status}", STATUS_OF_CLAIMED)
        .replace("{spent}", SPENT)
        .replace("{unfinished}", UNFINISHED)
        .replace("{waits}", WAITS)
        .replace("{holds}", HOLDS)
        .replace("{its_turn}", "CASE WHEN inbox.position > 0 THEN {turn} END")
        .replace("{turn}", TURN)
        .replace("{idle}", IDLE)
        .replace("{malformed}", MALFORMED);
    Sql::new(text)
}

/// Every statement of an inbox.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) insert: InsertStatements,
    pub(super) turn: TurnStatements,
    pub(super) claim_now: Sql,
    pub(super) claim_later: Sql,
    pub(super) recover: Sql,
    /// As `recover`, where a dead letter holds nobody up.
    pub(super) recover_to_skip: Sql,
    pub(super) extend: Sql,
    pub(super) release: Sql,
    pub(super) settle: Sql,
    pub(super) amend: Sql,
    pub(super) settle_processed: Sql,
    /// Which of the claims held that were settled as processed last.
    pub(super) last_settled: Sql,
    pub(super) settle_in_order: Sql,
    /// As `settle_in_order`, where a dead letter holds nobody up.
    pub(super) settle_to_skip: Sql,
    pub(super) settle_processed_in_order: Sql,
    pub(super) backlog: Sql,
    pub(super) stored: Sql,
    pub(super) next_due: Sql,
    pub(super) next_lapse: Sql,
    pub(super) unpark: Sql,
    pub(super) purge: Sql,
    pub(super) counts: Sql,
    pub(super) dead_letters: Sql,
    pub(super) requeue: Sql,
    pub(super) discard: Sql,
}

impl Statements {
    /// Writes the statements for a table.
    pub(super) fn new(table: &Table) -> Self {
        let sql = |template: &str| sql(template, table);
        let claim = |horizon: &str| sql(&CLAIM.replace("{horizon}", horizon));
        let settle = |from: &str, dead: &str, locked: &str| {
            sql(&SETTLE
                .replace("{from}", from)
                .replace("{dead}", dead)
                .replace("{locked}", locked))
        };
        let answering = |locked: &str| {
            sql(&format!(
                "WITH done AS ({SETTLE_PROCESSED} RETURNING inbox.id, inbox.lock_token)
                SELECT array_agg(id), array_agg(lock_token){locked} FROM done"
            ))
        };
        let recover = |dead: &str| sql(&RECOVER.replace("{dead}", dead));
        let locked = |consumer: &str| LOCKED.replace("{consumer}", consumer);
        Self {
            insert: InsertStatements::new(table),
            turn: TurnStatements::new(table),
            claim_now: claim("<= {sent}"),
            claim_later: claim("< {turn}"),
            recover: recover("NULL"),
            recover_to_skip: recover("TIMESTAMPTZ 'infinity'"),
            extend: sql(EXTEND),
            release: sql(RELEASE),
            settle: settle("'processing'", "NULL", ""),
            amend: settle("'processed'", "NULL", ""),
            settle_processed: sql(SETTLE_PROCESSED),
            last_settled: sql(LAST_SETTLED),
            settle_in_order: settle("'processing'", "NULL", &locked("$9")),
            settle_to_skip: settle("'processing'", "TIMESTAMPTZ 'infinity'", &locked("$9")),
            settle_processed_in_order: answering(&locked("$3")),
            backlog: sql(BACKLOG),
            stored: sql(STORED),
            next_due: sql(NEXT_DUE),
            next_lapse: sql(NEXT_LAPSE),
            unpark: sql(UNPARK),
            purge: sql(PURGE),
            counts: sql(COUNTS),
            dead_letters: sql(DEAD_LETTERS),
            requeue: sql(REQUEUE),
            discard: sql(DISCARD),
        }
    }

    /// The statement that recovers a row, by what its death means for those behind it.
    pub(super) fn recover_by(&self, policy: Option<OrderPolicy>) -> &Sql {
        match policy {
            Some(OrderPolicy::Skip) => &self.recover_to_skip,
            None | Some(OrderPolicy::Block | OrderPolicy::Park) => &self.recover,
        }
    }
}

/// `$1` consumer, `$2` limit, `$3` holder, `$4` lease.
const CLAIM: &str = "
    WITH waiting AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status IN ('pending', 'failed') AND {due} {horizon}
        ORDER BY {due}, inbox.id LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE {table} AS inbox SET
        status = 'processing', locked_by = $3,
        locked_until = {now} + $4 * INTERVAL '1 microsecond',
        lock_token = inbox.lock_token + 1, recovering = FALSE
    FROM waiting WHERE inbox.id = waiting.id
    RETURNING {columns}, {due} AS due,
        (EXTRACT(EPOCH FROM {due} - {now}) * 1000000)::bigint AS wait";

/// `$1` consumer, `$2` holder, `$3` lease. Every expression sees the row as it was. Python's rows
/// have no lease, which is one that has lapsed.
const RECOVER: &str = "
    WITH lapsed AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status = 'processing'
            AND {lapse} < {sent}
        ORDER BY {lapse}, inbox.id LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE {table} AS inbox SET
        status = CASE WHEN {spent} THEN 'dead_letter' ELSE 'processing' END,
        locked_by = CASE WHEN {spent} THEN NULL ELSE $2 END,
        locked_until = CASE WHEN {spent}
            THEN NULL ELSE {now} + $3 * INTERVAL '1 microsecond' END,
        recovering = NOT ({spent}),
        next_retry_at = CASE WHEN {spent} THEN {dead} ELSE inbox.next_retry_at END,
        error_message = CASE WHEN inbox.recovering
            THEN 'crash_loop: the process that ran the event alone ended without an answer'
            ELSE inbox.error_message END,
        last_error_at = CASE WHEN inbox.recovering THEN {now} ELSE inbox.last_error_at END,
        retry_count = inbox.retry_count + inbox.recovering::integer,
        lock_token = inbox.lock_token + 1
    FROM lapsed WHERE inbox.id = lapsed.id
    RETURNING {columns}, inbox.status";

/// `$1` and `$2` the claims, `$3` holder, `$4` lease.
///
/// A row that another transaction has locked is skipped, so that one that hangs in its commit does
/// not make all others lapse; it is most likely being settled. It is answered as held, because its
/// token still holds: should it have moved on, the settlement finds out.
const EXTEND: &str = "
    WITH owned AS MATERIALIZED (
        SELECT inbox.id, inbox.lock_token FROM {table} AS inbox
        JOIN unnest($1::uuid[], $2::bigint[]) AS claim(id, token)
            ON inbox.id = claim.id AND inbox.lock_token = claim.token AND {by_id:claim}
        WHERE {status} = 'processing' AND inbox.locked_by = $3),
    free AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox JOIN owned
            ON inbox.id = owned.id AND inbox.lock_token = owned.lock_token
        WHERE {status} = 'processing' AND inbox.locked_by = $3
        FOR UPDATE OF inbox SKIP LOCKED),
    extended AS (
        UPDATE {table} AS inbox SET locked_until = {now} + $4 * INTERVAL '1 microsecond'
        FROM free WHERE inbox.id = free.id)
    SELECT id, lock_token FROM owned";

/// `$1` and `$2` the claims, `$3` delay. Rows are locked in one order by the
/// statements that wait for several, so that no two of them wait for each other.
const RELEASE: &str = "
    WITH owned AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        JOIN unnest($1::uuid[], $2::bigint[]) AS claim(id, token)
            ON inbox.id = claim.id AND inbox.lock_token = claim.token AND {by_id:claim}
        WHERE {status} = 'processing'
        ORDER BY inbox.id FOR UPDATE OF inbox)
    UPDATE {table} AS inbox SET
        status = CASE inbox.retry_count WHEN 0 THEN 'pending' ELSE 'failed' END,
        next_retry_at = {now} + $3 * INTERVAL '1 microsecond',
        locked_by = NULL, locked_until = NULL, recovering = FALSE
    FROM owned WHERE inbox.id = owned.id";

/// Takes the lock of a consumer's order, together with others. See [`turn`](super::turn).
const LOCKED: &str = ",
        (SELECT {idle} FROM pg_advisory_xact_lock_shared(
            hashtextextended({consumer}, '{table}'::regclass::oid::bigint)))";

/// `$1` and `$2` the claims: the rows are done. Locking them first, in one order, would cost a quarter
/// more. Only a release of the same claims could wait for some of them too; it is repeated.
const SETTLE_PROCESSED: &str = "
    UPDATE {table} AS inbox SET
        status = 'processed', processed_at = {now}, next_retry_at = NULL, error_message = NULL,
        locked_by = NULL, locked_until = NULL, recovering = FALSE
    FROM unnest($1::uuid[], $2::bigint[]) AS settled(id, token)
    WHERE inbox.id = settled.id AND inbox.lock_token = settled.token AND {by_id:settled}
        AND {status} = 'processing'";

/// `$1` and `$2` the claims, `$3` how many of their rows [`SETTLE_PROCESSED`] has just written: those whose
/// transaction is the youngest. Others may be processed under the same claim, by a commit without an answer
/// or by another program, which at worst is named in the place of one.
const LAST_SETTLED: &str = "
    SELECT array_agg(id), array_agg(token) FROM (
        SELECT claim.id, claim.token
        FROM unnest($1::uuid[], $2::bigint[]) AS claim(id, token) CROSS JOIN LATERAL (
            SELECT inbox.xmin FROM {table} AS inbox
            WHERE inbox.id = claim.id AND inbox.lock_token = claim.token
                AND {status} = 'processed'
            LIMIT 1) AS settled
        ORDER BY age(settled.xmin) LIMIT $3) AS last";

/// `$1` to `$6` the settlements, an array for each column, `$7` holder, `$8` lease.
const SETTLE: &str = "
    WITH owned AS MATERIALIZED (
        SELECT inbox.id, settled.status, settled.retry_count, settled.delay, settled.error_message
        FROM {table} AS inbox
        JOIN unnest(
            $1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::bigint[], $6::text[])
            AS settled(id, token, status, retry_count, delay, error_message)
            ON inbox.id = settled.id AND inbox.lock_token = settled.token AND {by_id:settled}
        WHERE {status} = {from}
        ORDER BY inbox.id FOR UPDATE OF inbox),
    changed AS (UPDATE {table} AS inbox SET
        status = owned.status, retry_count = owned.retry_count,
        processed_at = CASE owned.status WHEN 'processed' THEN {now} END,
        next_retry_at = CASE owned.status
            WHEN 'failed' THEN {now} + owned.delay * INTERVAL '1 microsecond'
            WHEN 'pending' THEN TIMESTAMPTZ 'infinity'
            WHEN 'dead_letter' THEN {dead} END,
        error_message = owned.error_message,
        last_error_at = CASE WHEN owned.status IN ('failed', 'dead_letter')
            THEN {now} ELSE inbox.last_error_at END,
        locked_by = CASE owned.status WHEN 'processing' THEN $7 END,
        locked_until = CASE owned.status
            WHEN 'processing' THEN {now} + $8 * INTERVAL '1 microsecond' END,
        recovering = FALSE
    FROM owned WHERE inbox.id = owned.id
    RETURNING inbox.id, inbox.lock_token)
    SELECT array_agg(id), array_agg(lock_token){locked} FROM changed";

/// `$1` consumer, `$2` limit.
const BACKLOG: &str = "
    SELECT COUNT(*) FROM (
        SELECT FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status IN ('pending', 'failed') AND {due} <= {sent}
        LIMIT $2) AS due";

const NEXT_DUE: &str = "
    SELECT GREATEST(0, EXTRACT(EPOCH FROM {due} - {now}) * 1000000)::bigint
    FROM {table} AS inbox
    WHERE inbox.consumer = $1 AND inbox.status IN ('pending', 'failed') AND {due} < {turn}
    ORDER BY {due} LIMIT 1";

const NEXT_LAPSE: &str = "
    SELECT GREATEST(0, EXTRACT(EPOCH FROM inbox.locked_until - {now}) * 1000000)::bigint
    FROM {table} AS inbox WHERE inbox.consumer = $1 AND inbox.status = 'processing'
    ORDER BY {lapse} LIMIT 1";

/// `$1` consumer, `$2` the event types.
const UNPARK: &str = "
    WITH parked AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status IN ('pending', 'failed') AND {due} = 'infinity'
            AND ($2::text[] IS NULL OR inbox.event_type = ANY($2))
        ORDER BY inbox.id FOR UPDATE)
    UPDATE {table} AS inbox SET next_retry_at = {its_turn}
    FROM parked WHERE inbox.id = parked.id
    RETURNING inbox.aggregate_id, inbox.position";

/// `$1` consumer, `$2` and `$3` the ages of processed rows and dead letters, `$4` limit.
const PURGE: &str = "
    WITH processed AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status = 'processed'
            AND inbox.processed_at < {sent} - $2 * INTERVAL '1 microsecond'
        ORDER BY inbox.processed_at LIMIT $4 FOR UPDATE SKIP LOCKED),
    dead AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status = 'dead_letter'
            AND COALESCE(inbox.last_error_at, inbox.received_at)
                < {sent} - $3 * INTERVAL '1 microsecond'
        ORDER BY COALESCE(inbox.last_error_at, inbox.received_at) LIMIT $4 FOR UPDATE SKIP LOCKED)
    DELETE FROM {table} WHERE id IN (
        SELECT id FROM processed UNION ALL SELECT id FROM dead LIMIT $4)";

/// `$1` the ids.
const STORED: &str = "
    SELECT COUNT(*) FROM unnest($1::uuid[]) AS arrival(id) CROSS JOIN LATERAL (
        SELECT FROM {table} AS inbox WHERE inbox.id = arrival.id LIMIT 1) AS stored";

const COUNTS: &str = "
    SELECT
        COUNT(*) FILTER (WHERE status = 'pending'), COUNT(*) FILTER (WHERE status = 'processing'),
        COUNT(*) FILTER (WHERE status = 'processed'), COUNT(*) FILTER (WHERE status = 'failed'),
        COUNT(*) FILTER (WHERE status = 'dead_letter')
    FROM {table} WHERE consumer = $1";

const DEAD_LETTERS: &str = "
    SELECT {columns}, inbox.error_message,
        COALESCE(inbox.last_error_at, inbox.received_at) AS died_at
    FROM {table} AS inbox WHERE inbox.consumer = $1 AND inbox.status = 'dead_letter'
    ORDER BY COALESCE(inbox.last_error_at, inbox.received_at) DESC, inbox.id DESC LIMIT $2";

/// `$1` consumer, `$2` the ids.
const REQUEUE: &str = "
    WITH dead AS MATERIALIZED (
        SELECT id FROM {table}
        WHERE consumer = $1 AND status = 'dead_letter' AND event_id NOT LIKE '{malformed}%'
            AND id = ANY($2)
        ORDER BY id FOR UPDATE)
    UPDATE {table} AS inbox SET
        status = 'pending', retry_count = 0, next_retry_at = {its_turn}, error_message = NULL
    FROM dead WHERE inbox.id = dead.id
    RETURNING inbox.aggregate_id, inbox.position";

/// `$1` consumer, `$2` the ids.
const DISCARD: &str = "
    WITH dead AS MATERIALIZED (
        SELECT id FROM {table}
        WHERE consumer = $1 AND status = 'dead_letter' AND id = ANY($2)
        ORDER BY id FOR UPDATE)
    DELETE FROM {table} AS inbox USING dead WHERE inbox.id = dead.id
    RETURNING inbox.aggregate_id, inbox.position";
