//! Order per aggregate in SQLite: its statements, and what runs them in a transaction that writes.
//!
//! SQLite has one writer, so that what looks at an aggregate and changes it is alone.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    insert::Insert,
    sql::{Statements, sql},
    statement,
};
use crate::{
    database::{
        identifier::Identifier,
        sql::Sql,
        sqlite::values::{json, uuid},
    },
    inbox::{
        Arrival, Holder, Insertion, OrderPolicy, ReaderLease, Settlement, Status,
        place::{Placed, Standing, parked_behind, place},
        record::insertion,
    },
};

/// When the row that waits for its turn is due.
pub(super) const TURN: i64 = i64::MAX - 1;

/// How many events a statement makes dead letters that wait behind one.
const PARKED_AT_ONCE: i64 = 1_000;

/// How many aggregates are looked at in one statement for a turn that nobody has passed on.
const AGGREGATES_AT_ONCE: i64 = 1_000;

/// The statements of the order.
#[derive(Debug)]
pub(super) struct TurnStatements {
    held: Sql,
    number: Sql,
    known: Sql,
    busy: Sql,
    heads: Sql,
    pass_of_rows: Sql,
    pass_of_aggregates: Sql,
    park_of_rows: Sql,
    park_of_aggregates: Sql,
    aggregates: Sql,
    overdue: Sql,
    pub(super) leave: Sql,
}

impl TurnStatements {
    pub(super) fn new(table: &Identifier) -> Self {
        let sql = |template: &str| sql(template, table);
        let of = |template: &str, aggregates: &str| {
            sql(&template
                .replace("{turns}", TURNS)
                .replace("{parked}", &parked_behind("' || rest.event_id || '"))
                .replace("{aggregates}", aggregates))
        };
        Self {
            held: sql(HELD),
            number: sql(NUMBER),
            known: sql(KNOWN),
            busy: sql(BUSY),
            heads: sql(HEADS),
            pass_of_rows: of(PASS, OF_ROWS),
            pass_of_aggregates: of(PASS, NAMED),
            park_of_rows: of(PARK, OF_ROWS),
            park_of_aggregates: of(PARK, NAMED),
            aggregates: sql(AGGREGATES),
            overdue: of(OVERDUE, NAMED),
            leave: sql(LEAVE),
        }
    }
}

/// `$1` the leases' names and terms as a JSON array, `$2` holder.
const HELD: &str = "
    SELECT COUNT(*) FROM {leases} AS lease
    JOIN json_each($1) AS held
        ON lease.name = held.value ->> 'name' AND lease.term = held.value ->> 'term'
    WHERE lease.holder = $2";

const NUMBER: &str = "UPDATE {positions} SET number = number + 1 RETURNING number";

/// `$1` consumer, `$2` the event ids as a JSON array.
const KNOWN: &str = "
    SELECT event_id FROM {table}
    WHERE consumer = $1 AND event_id IN (SELECT value FROM json_each($2))";

/// `$1` consumer, `$2` the aggregates as a JSON array.
const BUSY: &str = "
    SELECT aggregate.value FROM json_each($2) AS aggregate WHERE EXISTS (
        SELECT 1 FROM {table} WHERE consumer = $1 AND aggregate_id = aggregate.value
            AND {unfinished})";

/// `$1` consumer, `$2` the aggregates as a JSON array.
const HEADS: &str = "
    SELECT aggregate, head FROM (
        SELECT aggregate.value AS aggregate, (
            SELECT event_id FROM {table}
            WHERE consumer = $1 AND aggregate_id = aggregate.value AND {holds}
            ORDER BY position LIMIT 1) AS head
        FROM json_each($2) AS aggregate) WHERE head IS NOT NULL";

/// The aggregates of rows, whose ids are a JSON array.
const OF_ROWS: &str = "
    SELECT DISTINCT aggregate_id AS name FROM {table}
    WHERE id IN (SELECT value FROM json_each($2)) AND position > 0";

/// The aggregates of a JSON array.
const NAMED: &str = "SELECT value AS name FROM json_each($2)";

/// The rows whose turn it is: of each aggregate the first that waits, unless another may run, or one
/// before it holds it up.
const TURNS: &str = "
    SELECT head.id FROM (
        SELECT aggregate.name, (
            SELECT id FROM {table}
            WHERE consumer = $1 AND aggregate_id = aggregate.name AND {unfinished} AND {waits} = 1
            ORDER BY position LIMIT 1) AS id
        FROM ({aggregates}) AS aggregate) AS first
    JOIN {table} AS head ON head.id = first.id
    WHERE NOT EXISTS (
        SELECT 1 FROM {table} AS other
        WHERE other.consumer = $1 AND other.aggregate_id = first.name
            AND {unfinished:other} AND {waits:other} = 0
            AND (other.position < head.position
                OR other.next_retry_at IS NOT 9223372036854775807))
    AND NOT EXISTS (
        SELECT 1 FROM {table} AS other
        WHERE other.consumer = $1 AND other.aggregate_id = first.name
            AND {holds:other} AND other.position < head.position)";

/// `$1` consumer, `$2` the rows or the aggregates.
const PASS: &str = "UPDATE {table} SET next_retry_at = NULL WHERE id IN ({turns})";

/// `$1` consumer, `$2` the aggregates.
const OVERDUE: &str = "SELECT aggregate_id FROM {table} WHERE id IN ({turns})";

/// `$1` consumer, `$2` the rows or the aggregates, `$3` limit.
const PARK: &str = "
    UPDATE {table} SET
        status = 'dead_letter', last_error_at = {now}, error_message = '{parked}'
    FROM (
        SELECT waiting.id AS waiting_id, head.event_id
        FROM (
            SELECT aggregate.name, (
                SELECT id FROM {table}
                WHERE consumer = $1 AND aggregate_id = aggregate.name AND {holds}
                ORDER BY position LIMIT 1) AS id
            FROM ({aggregates}) AS aggregate) AS first
        JOIN {table} AS head ON head.id = first.id
        JOIN {table} AS waiting
            ON waiting.consumer = $1 AND waiting.aggregate_id = first.name
            AND {unfinished:waiting} AND {waits:waiting} = 1
            AND waiting.position > head.position
        LIMIT $3) AS rest
    WHERE id = rest.waiting_id";

/// `$1` consumer, `$2` the last aggregate that was looked at, `$3` limit: the next ones with an event
/// that is not done.
const AGGREGATES: &str = "
    WITH RECURSIVE aggregate(id, number) AS (
        SELECT MIN(aggregate_id), 1 FROM {table}
        WHERE consumer = $1 AND aggregate_id > $2 AND {unfinished}
        UNION ALL
        SELECT (
            SELECT MIN(aggregate_id) FROM {table}
            WHERE consumer = $1 AND aggregate_id > aggregate.id AND {unfinished}), number + 1
        FROM aggregate WHERE number < $3 AND id IS NOT NULL)
    SELECT id FROM aggregate WHERE id IS NOT NULL";

/// `$1` consumer.
const LEAVE: &str = "
    UPDATE {table} SET next_retry_at = NULL
    WHERE consumer = $1 AND status IN ('pending', 'failed') AND {due} = {turn}";

/// Stores arrivals behind those of their aggregates; `None` if the lease is over.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    statements: &Statements,
    (holder, reader): (&Holder, &ReaderLease),
    policy: OrderPolicy,
    arrivals: Vec<Arrival>,
) -> Result<Option<Insertion>, sqlx::Error> {
    if !is_held(connection, statements, holder, reader).await? {
        return Ok(None);
    }
    let standing = look(connection, statements, &holder.consumer, &arrivals).await?;
    let placed: Vec<Placed> = place(&arrivals, policy, standing);
    let insert = Insert {
        statements,
        holder,
        run_as: Status::Processing,
    };
    let entered = insert.in_order(connection, &placed).await?;
    let known = arrivals
        .iter()
        .map(|arrival| arrival.id)
        .filter(|id| !entered.has(id))
        .collect();
    let placed = placed.into_iter().map(|placed| placed.arrival);
    let insertion = insertion(placed.collect(), &entered);
    Ok(Some(Insertion {
        duplicates: known,
        ..insertion
    }))
}

async fn is_held(
    connection: &mut SqliteConnection,
    statements: &Statements,
    holder: &Holder,
    reader: &ReaderLease,
) -> Result<bool, sqlx::Error> {
    #[derive(Serialize)]
    struct Held<'a> {
        name: &'a str,
        term: i64,
    }

    let names = reader.names.iter().zip(&reader.terms);
    let held: Vec<_> = names.map(|(name, &term)| Held { name, term }).collect();
    let count: i64 = sqlx::query_scalar(statements.turn.held.text())
        .bind(json(&held)?)
        .bind(&holder.name)
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(count) == Ok(reader.names.len()))
}

/// Looks where arrivals are to stand.
async fn look(
    connection: &mut SqliteConnection,
    statements: &Statements,
    consumer: &str,
    arrivals: &[Arrival],
) -> Result<Standing, sqlx::Error> {
    let turn = &statements.turn;
    let events = || arrivals.iter().map(|arrival| arrival.envelope.metadata());
    let event_ids: Vec<&str> = events().map(|event| event.event_id.as_str()).collect();
    let aggregates: HashSet<Uuid> = events().map(|event| event.aggregate_id).collect();
    let aggregates = json(&aggregates)?;
    let number = sqlx::query_scalar(turn.number.text())
        .fetch_one(&mut *connection)
        .await?;
    let known: Vec<String> = sqlx::query_scalar(turn.known.text())
        .bind(consumer)
        .bind(json(&event_ids)?)
        .fetch_all(&mut *connection)
        .await?;
    let busy = statement(&turn.busy)
        .bind(consumer.to_owned())
        .bind(aggregates.clone());
    let busy = busy.fetch_all(&mut *connection).await?;
    let heads = statement(&turn.heads)
        .bind(consumer.to_owned())
        .bind(aggregates);
    let heads = heads.fetch_all(connection).await?;
    let head = |row: &SqliteRow| Ok::<_, sqlx::Error>((uuid(row, 0)?, row.try_get(1)?));
    Ok(Standing {
        number,
        known: known.into_iter().collect(),
        busy: uuids(&busy)?.into_iter().collect(),
        held: heads
            .iter()
            .map(head)
            .collect::<Result<HashMap<_, _>, _>>()?,
    })
}

/// Passes the turns on of settled rows; answers whether one was.
pub(super) async fn pass(
    connection: &mut SqliteConnection,
    statements: &Statements,
    policy: OrderPolicy,
    consumer: &str,
    settlements: &[Settlement],
) -> Result<bool, sqlx::Error> {
    let rows_as = |states: &[Status]| -> Vec<Uuid> {
        let settlements = settlements.iter();
        let rows = settlements.filter(|settlement| states.contains(&settlement.status));
        rows.map(|settlement| settlement.lease.id).collect()
    };
    // One that is left for a later deploy lets those before it go on that were requeued.
    let ended = rows_as(&[Status::Processed, Status::DeadLetter, Status::Pending]);
    let dead = rows_as(&[Status::DeadLetter]);
    pass_on(connection, statements, policy, consumer, &ended, &dead).await
}

/// As [`pass`], of rows that have ended; of those the dead letters.
pub(super) async fn pass_on(
    connection: &mut SqliteConnection,
    statements: &Statements,
    policy: OrderPolicy,
    consumer: &str,
    ended: &[Uuid],
    dead: &[Uuid],
) -> Result<bool, sqlx::Error> {
    if ended.is_empty() {
        return Ok(false);
    }
    let pass = &statements.turn.pass_of_rows;
    let passed = change(connection, pass, consumer, ended).await?;
    if policy == OrderPolicy::Park && !dead.is_empty() {
        park(connection, &statements.turn.park_of_rows, consumer, dead).await?;
    }
    Ok(passed > 0)
}

/// Makes dead letters of what waits in aggregates behind a dead letter; answers whether that is all.
pub(super) async fn park_of_aggregates(
    connection: &mut SqliteConnection,
    statements: &Statements,
    consumer: &str,
    aggregates: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let sql = &statements.turn.park_of_aggregates;
    park(connection, sql, consumer, aggregates).await
}

async fn park(
    connection: &mut SqliteConnection,
    sql: &Sql,
    consumer: &str,
    behind: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let park = statement(sql)
        .bind(consumer.to_owned())
        .bind(json(behind)?)
        .bind(PARKED_AT_ONCE);
    let parked = park.execute(connection).await?.rows_affected();
    if parked > 0 {
        tracing::warn!(
            consumer,
            events = parked,
            "events behind a dead letter of their aggregate are dead letters as well"
        );
    }
    Ok(parked < PARKED_AT_ONCE.unsigned_abs())
}

/// Passes the turns of aggregates on.
pub(super) async fn pass_of_aggregates(
    connection: &mut SqliteConnection,
    statements: &Statements,
    consumer: &str,
    aggregates: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let pass = &statements.turn.pass_of_aggregates;
    change(connection, pass, consumer, aggregates).await
}

async fn change(
    connection: &mut SqliteConnection,
    sql: &Sql,
    consumer: &str,
    ids: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let change = statement(sql).bind(consumer.to_owned()).bind(json(ids)?);
    Ok(change.execute(connection).await?.rows_affected())
}

/// The next aggregates after one that have an event which is not done, and of those the ones where a
/// turn was not passed on.
pub(super) async fn overdue(
    connection: &mut SqliteConnection,
    statements: &Statements,
    consumer: &str,
    after: Option<Uuid>,
) -> Result<(Vec<Uuid>, Vec<Uuid>), sqlx::Error> {
    let after = after.map_or_else(String::new, |aggregate| aggregate.to_string());
    let next = statement(&statements.turn.aggregates)
        .bind(consumer.to_owned())
        .bind(after)
        .bind(AGGREGATES_AT_ONCE);
    let aggregates = uuids(&next.fetch_all(&mut *connection).await?)?;
    let overdue = statement(&statements.turn.overdue)
        .bind(consumer.to_owned())
        .bind(json(&aggregates)?);
    let overdue = uuids(&overdue.fetch_all(connection).await?)?;
    Ok((aggregates, overdue))
}

fn uuids(rows: &[SqliteRow]) -> Result<Vec<Uuid>, sqlx::Error> {
    rows.iter().map(|row| uuid(row, 0)).collect()
}
