//! The statements, written once per inbox for its table's name.
//!
//! Rows are found by `{sent}`, which is `{now}` without the affinity of a cast: compared with that,
//! an index of an expression would not be searched, and all its rows read.

use super::turn::{TURN, TurnStatements};
use crate::{
    database::{identifier::Identifier, sql::Sql, sqlite::NOW},
    envelope::wire::MALFORMED,
    inbox::OrderPolicy,
};

/// What [`record`](super::row::record) reads.
const COLUMNS: &str = "id, lock_token, event_id, stream_id, event_type, aggregate_id, \
    correlation_id, causation_id, occurred_on, payload, headers, raw, retry_count, max_retries";

/// Writes a statement for a table.
pub(super) fn sql(template: &str, table: &Identifier) -> Sql {
    let beside = |suffix: &str| format!("\"{}_{suffix}\"", table.as_str());
    let text = of_rows(template, "", "");
    let text = of_rows(&text, ":other", "other.");
    let text = of_rows(&text, ":waiting", "waiting.");
    let text = text
        .replace("{table}", &table.to_string())
        .replace("{leases}", &beside("leases"))
        .replace("{positions}", &beside("positions"))
        .replace("{its_turn}", "CASE WHEN position > 0 THEN {turn} END")
        .replace("{turn}", &TURN.to_string())
        .replace("{columns}", COLUMNS)
        .replace("{sent}", "{now} + 0")
        .replace("{now}", NOW)
        .replace("{due}", "COALESCE(next_retry_at, received_at)")
        .replace("{lapse}", "COALESCE(locked_until, 0)")
        .replace("{malformed}", MALFORMED);
    Sql::new(text)
}

/// Writes the conditions of an order, on a table of a query that has a name, or on the only one. Spelled as
/// the indexes do.
fn of_rows(template: &str, mark: &str, name: &str) -> String {
    let unfinished =
        format!("{name}position > 0 AND {name}status IN ('pending', 'processing', 'failed')");
    let waits = format!("(CASE {name}next_retry_at WHEN {TURN} THEN 1 ELSE 0 END)");
    let holds = format!(
        "{name}position > 0 AND {name}status = 'dead_letter' AND {name}next_retry_at IS NULL"
    );
    template
        .replace(&format!("{{unfinished{mark}}}"), &unfinished)
        .replace(&format!("{{waits{mark}}}"), &waits)
        .replace(&format!("{{holds{mark}}}"), &holds)
}

/// Every statement of an inbox.
#[derive(Debug)]
pub(super) struct Statements {
    /// From the fewest rows to the most.
    inserts: [InsertSql; 3],
    inserts_in_order: [InsertSql; 3],
    pub(super) turn: TurnStatements,
    pub(super) made: Sql,
    pub(super) claim_now: Sql,
    pub(super) claim_later: Sql,
    pub(super) recover: Sql,
    /// As `recover`, where a dead letter holds nobody up.
    pub(super) recover_to_skip: Sql,
    pub(super) extend: Sql,
    pub(super) release: Sql,
    pub(super) settle: Sql,
    /// As `settle`, where a dead letter holds nobody up.
    pub(super) settle_to_skip: Sql,
    pub(super) settle_processed: Sql,
    pub(super) amend: Sql,
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
    pub(super) fn new(table: &Identifier) -> Self {
        let sql = |template: &str| sql(template, table);
        let claim = |horizon: &str| sql(&CLAIM.replace("{horizon}", horizon));
        let settle =
            |from: &str, dead: &str| sql(&SETTLE.replace("{from}", from).replace("{dead}", dead));
        let recover = |dead: &str| sql(&RECOVER.replace("{dead}", dead));
        let inserts = |values| [1, 10, 100].map(|rows| InsertSql::new(rows, values, table));
        Self {
            inserts: inserts(InsertSql::VALUES),
            inserts_in_order: inserts(InsertSql::VALUES + 1),
            turn: TurnStatements::new(table),
            made: sql(MADE),
            claim_now: claim("<= {sent}"),
            claim_later: claim("< {turn}"),
            recover: recover("NULL"),
            recover_to_skip: recover("9223372036854775807"),
            extend: sql(EXTEND),
            release: sql(RELEASE),
            settle: settle("'processing'", "NULL"),
            settle_to_skip: settle("'processing'", "9223372036854775807"),
            settle_processed: sql(SETTLE_PROCESSED),
            amend: settle("'processed'", "NULL"),
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

    /// The statement that settles rows of any next state.
    pub(super) fn settle_by(&self, policy: Option<OrderPolicy>) -> &Sql {
        match policy {
            Some(OrderPolicy::Skip) => &self.settle_to_skip,
            Some(OrderPolicy::Block | OrderPolicy::Park) | None => &self.settle,
        }
    }

    /// The statement that takes so many rows with the fewest to spare, or else the most rows.
    pub(super) fn insert(&self, rows: usize) -> &InsertSql {
        InsertSql::for_rows(&self.inserts, rows)
    }

    /// As [`insert`](Self::insert), with a position for each row.
    pub(super) fn insert_in_order(&self, rows: usize) -> &InsertSql {
        InsertSql::for_rows(&self.inserts_in_order, rows)
    }
}

/// An insert of a fixed number of rows: each number is compiled once by each connection.
#[derive(Debug)]
pub(super) struct InsertSql {
    pub(super) sql: Sql,
    /// How many rows it takes; those whose values are all null are left out.
    pub(super) rows: usize,
    /// How many values a row has.
    pub(super) values: usize,
}

impl InsertSql {
    /// How many values a row has that has no place.
    const VALUES: usize = 15;

    fn new(rows: usize, values: usize, table: &Identifier) -> Self {
        // Without names: the driver looks for each value's name among all of them.
        let row = format!("({})", vec!["?"; values].join(", "));
        let shared = rows * values;
        let (column, position) = if values > Self::VALUES {
            (", position", ", column16")
        } else {
            ("", "")
        };
        let template = INSERT
            .replace("{column}", column)
            .replace("{position}", position)
            .replace("{rows}", &vec![row; rows].join(", "))
            .replace("{consumer}", &format!("${}", shared + 1))
            .replace("{holder}", &format!("${}", shared + 2))
            .replace("{lease}", &format!("${}", shared + 3));
        Self {
            sql: sql(&template, table),
            rows,
            values,
        }
    }

    fn for_rows(inserts: &[Self; 3], rows: usize) -> &Self {
        let [fewest, some, most] = inserts;
        match rows {
            _ if rows <= fewest.rows => fewest,
            _ if rows <= some.rows => some,
            _ => most,
        }
    }
}

/// The values of its rows, then consumer, holder and lease.
const INSERT: &str = "
    INSERT INTO {table} (
        id, event_id, stream_id, event_type, aggregate_id, correlation_id, causation_id,
        occurred_on, payload, headers, raw, status, max_retries, next_retry_at, error_message,
        consumer, received_at, processed_at, last_error_at, locked_by, locked_until, lock_token{column})
    SELECT
        column1, column2, column3, column4, column5, column6, column7, column8, column9, column10,
        column11, column12, column13, column14, column15,
        {consumer}, {now},
        CASE column12 WHEN 'processed' THEN {now} END,
        CASE column12 WHEN 'dead_letter' THEN {now} END,
        CASE column12 WHEN 'processing' THEN {holder} END,
        CASE column12 WHEN 'processing' THEN {now} + {lease} END,
        column12 IN ('processing', 'processed'){position}
    FROM (VALUES {rows}) WHERE column1 IS NOT NULL
    ON CONFLICT (consumer, event_id) DO NOTHING";

/// `$1` the number of the last row that an insert has made, `$2` how many it made.
const MADE: &str = "SELECT id FROM {table} WHERE rowid > $1 - $2 AND rowid <= $1";

/// `$1` consumer, `$2` limit, `$3` holder, `$4` lease.
const CLAIM: &str = "
    UPDATE {table} SET
        status = 'processing', locked_by = $3, locked_until = {now} + $4,
        lock_token = lock_token + 1, recovering = 0
    WHERE id IN (
        SELECT id FROM {table}
        WHERE consumer = $1 AND status IN ('pending', 'failed') AND {due} {horizon}
        ORDER BY {due}, id LIMIT $2)
    RETURNING {columns}, {due} AS due, {due} - {now} AS wait";

/// `$1` consumer, `$2` holder, `$3` lease. Every expression sees the row as it was.
const RECOVER: &str = "
    UPDATE {table} SET
        status = CASE WHEN recovering AND max_retries > 0 AND retry_count + 1 >= max_retries
            THEN 'dead_letter' ELSE 'processing' END,
        locked_by = CASE WHEN recovering AND max_retries > 0 AND retry_count + 1 >= max_retries
            THEN NULL ELSE $2 END,
        locked_until = CASE WHEN recovering AND max_retries > 0 AND retry_count + 1 >= max_retries
            THEN NULL ELSE {now} + $3 END,
        recovering = CASE WHEN recovering AND max_retries > 0 AND retry_count + 1 >= max_retries
            THEN 0 ELSE 1 END,
        next_retry_at = CASE WHEN recovering AND max_retries > 0 AND retry_count + 1 >= max_retries
            THEN {dead} ELSE next_retry_at END,
        error_message = CASE WHEN recovering
            THEN 'crash_loop: the process that ran the event alone ended without an answer'
            ELSE error_message END,
        last_error_at = CASE WHEN recovering THEN {now} ELSE last_error_at END,
        retry_count = retry_count + recovering,
        lock_token = lock_token + 1
    WHERE id = (
        SELECT id FROM {table}
        WHERE consumer = $1 AND status = 'processing'
            AND {lapse} < {sent}
        ORDER BY {lapse}, id LIMIT 1)
    RETURNING {columns}, status";

/// `$1` the claims as a JSON array, `$2` holder, `$3` lease.
const EXTEND: &str = "
    UPDATE {table} SET locked_until = {now} + $3
    FROM (SELECT value ->> 'id' AS claimed, value ->> 'token' AS token FROM json_each($1))
    WHERE id = claimed AND lock_token = token AND status = 'processing' AND locked_by = $2
    RETURNING id, lock_token";

/// `$1` the claims as a JSON array, `$2` delay.
const RELEASE: &str = "
    UPDATE {table} SET
        status = CASE retry_count WHEN 0 THEN 'pending' ELSE 'failed' END,
        next_retry_at = {now} + $2,
        locked_by = NULL, locked_until = NULL, recovering = 0
    FROM (SELECT value ->> 'id' AS claimed, value ->> 'token' AS token FROM json_each($1))
    WHERE id = claimed AND lock_token = token AND status = 'processing'";

/// `$1` the tokens by rows, as a JSON object.
const SETTLE_PROCESSED: &str = "
    UPDATE {table} SET
        status = 'processed', processed_at = {now}, next_retry_at = NULL, error_message = NULL,
        locked_by = NULL, locked_until = NULL, recovering = 0
    FROM json_each($1) AS settled
    WHERE {table}.id = settled.key AND lock_token = settled.value AND status = 'processing'";

/// `$1` the settlements as a JSON array, `$2` holder, `$3` lease.
const SETTLE: &str = "
    UPDATE {table} SET
        status = settled.status, retry_count = settled.retry_count,
        processed_at = CASE settled.status WHEN 'processed' THEN {now} END,
        next_retry_at = CASE settled.status
            WHEN 'failed' THEN {now} + settled.delay
            WHEN 'pending' THEN 9223372036854775807
            WHEN 'dead_letter' THEN {dead} END,
        error_message = settled.error_message,
        last_error_at = CASE WHEN settled.status IN ('failed', 'dead_letter')
            THEN {now} ELSE last_error_at END,
        locked_by = CASE settled.status WHEN 'processing' THEN $2 END,
        locked_until = CASE settled.status WHEN 'processing' THEN {now} + $3 END,
        recovering = 0
    FROM (
        SELECT value ->> 'id' AS claimed, value ->> 'token' AS token,
            value ->> 'status' AS status, value ->> 'retry_count' AS retry_count,
            value ->> 'delay' AS delay, value ->> 'error_message' AS error_message
        FROM json_each($1)) AS settled
    WHERE id = claimed AND lock_token = token AND {table}.status = {from}
    RETURNING id, lock_token";

/// `$1` consumer, `$2` limit.
const BACKLOG: &str = "
    SELECT COUNT(*) FROM (
        SELECT 1 FROM {table}
        WHERE consumer = $1 AND status IN ('pending', 'failed') AND {due} <= {sent} LIMIT $2)";

const NEXT_DUE: &str = "
    SELECT MAX(0, {due} - {now}) FROM {table}
    WHERE consumer = $1 AND status IN ('pending', 'failed') AND {due} < {turn}
    ORDER BY {due} LIMIT 1";

const NEXT_LAPSE: &str = "
    SELECT MAX(0, {lapse} - {now}) FROM {table}
    WHERE consumer = $1 AND status = 'processing' ORDER BY {lapse} LIMIT 1";

/// `$1` consumer, `$2` the event types as a JSON array.
const UNPARK: &str = "
    UPDATE {table} SET next_retry_at = {its_turn}
    WHERE consumer = $1 AND status IN ('pending', 'failed') AND {due} = 9223372036854775807
        AND ($2 IS NULL OR event_type IN (SELECT value FROM json_each($2)))
    RETURNING aggregate_id, position";

/// `$1` consumer, `$2` and `$3` the ages of processed rows and dead letters, `$4` limit.
const PURGE: &str = "
    DELETE FROM {table} WHERE id IN (
        SELECT id FROM {table}
        WHERE consumer = $1 AND status = 'processed' AND processed_at < {sent} - $2
        UNION ALL
        SELECT id FROM {table}
        WHERE consumer = $1 AND status = 'dead_letter'
            AND COALESCE(last_error_at, received_at) < {sent} - $3
        LIMIT $4)";

/// `$1` the ids as a JSON array.
const STORED: &str = "SELECT COUNT(*) FROM {table} WHERE id IN (SELECT value FROM json_each($1))";

const COUNTS: &str = "
    SELECT
        COUNT(*) FILTER (WHERE status = 'pending'), COUNT(*) FILTER (WHERE status = 'processing'),
        COUNT(*) FILTER (WHERE status = 'processed'), COUNT(*) FILTER (WHERE status = 'failed'),
        COUNT(*) FILTER (WHERE status = 'dead_letter')
    FROM {table} WHERE consumer = $1";

const DEAD_LETTERS: &str = "
    SELECT {columns}, error_message, COALESCE(last_error_at, received_at) AS died_at
    FROM {table} WHERE consumer = $1 AND status = 'dead_letter'
    ORDER BY COALESCE(last_error_at, received_at) DESC, id DESC LIMIT $2";

/// `$1` consumer, `$2` the ids as a JSON array.
const REQUEUE: &str = "
    UPDATE {table} SET
        status = 'pending', retry_count = 0, next_retry_at = {its_turn}, error_message = NULL
    WHERE consumer = $1 AND status = 'dead_letter' AND event_id NOT LIKE '{malformed}%'
        AND id IN (SELECT value FROM json_each($2))
    RETURNING aggregate_id, position";

/// `$1` consumer, `$2` the ids as a JSON array.
const DISCARD: &str = "
    DELETE FROM {table}
    WHERE consumer = $1 AND status = 'dead_letter'
        AND id IN (SELECT value FROM json_each($2))
    RETURNING aggregate_id, position";

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _, SqliteConnection};

    use super::{super::migrate::schema_sql, *};

    /// Whatever lies in the table, a statement that looks for rows whose time has come reads these.
    #[tokio::test]
    async fn an_index_ends_where_the_due_rows_do() {
        let table = Identifier::new("table", "event_inbox").unwrap();
        let statements = Statements::new(&table);
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let schema = AssertSqlSafe(schema_sql(&table));
        connection.execute(schema).await.unwrap();

        for (sql, indexes) in [
            (&statements.claim_now, &["due"][..]),
            (&statements.claim_later, &["due"]),
            (&statements.recover, &["lapsed"]),
            (&statements.next_due, &["due"]),
            (&statements.purge, &["processed", "dead"]),
        ] {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.text().0));
            let plan = connection.fetch_all(explain).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();

            for index in indexes {
                let range = format!("INDEX ix_event_inbox_{index} (consumer=? AND ");
                let is_searched = plan.iter().any(|step| step.contains(&range));
                assert!(is_searched, "{sql:?}: {plan:#?}");
            }
            for step in &plan {
                let is_cheap = !step.contains("B-TREE") && !step.starts_with("SCAN");
                assert!(is_cheap, "{sql:?}: {plan:#?}");
            }
        }
    }
}
