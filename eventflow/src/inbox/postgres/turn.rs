//! Order per aggregate in Postgres: its statements, and what runs them on a connection.
//!
//! Two locks of a consumer keep those apart who change the order. Who settles an event and passes its
//! turn on has the lock together with others of its kind; who adds an event, or gives one a turn
//! again, has it alone. Each takes it before the statement that looks at the aggregates, which then
//! sees what was committed before. Who has the lock waits only for rows that wait for their turn, are
//! parked, or are dead letters by now, and who waits for it has locked none of these: nobody waits in a
//! circle. A process that stands still while it has the lock loses it after [`IDLE`].

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    insert::Insert,
    sql::{Statements, sql},
};
use crate::{
    database::{
        postgres::{parameters::Parameters, table::Table},
        sql::Sql,
    },
    inbox::{
        Arrival, Holder, Insertion, OrderPolicy, ReaderLease, Settlement, Status,
        place::{Standing, parked_behind, place},
        record::{Entered, Ids, insertion},
    },
};

/// Where the row that waits for its turn is due.
pub(super) const TURN: &str = "TIMESTAMPTZ '9999-12-31 00:00:00+00'";

/// How many events a statement makes dead letters that wait behind one.
const PARKED_AT_ONCE: i64 = 1_000;

/// How many aggregates are looked at in one statement for a turn that nobody has passed on.
const AGGREGATES_AT_ONCE: i64 = 1_000;

/// The statements of the order.
#[derive(Debug)]
pub(super) struct TurnStatements {
    lock: Sql,
    look: Sql,
    pass_of_rows: Sql,
    pass_of_aggregates: Sql,
    park_of_rows: Sql,
    park_of_aggregates: Sql,
    is_behind: Sql,
    aggregates: Sql,
    overdue: Sql,
    pub(super) leave: Sql,
}

impl TurnStatements {
    pub(super) fn new(table: &Table) -> Self {
        let sql = |template: &str| sql(template, table);
        let of = |template: &str, aggregates: &str| {
            sql(&template
                .replace("{turns}", TURNS)
                .replace("{behind}", BEHIND)
                .replace("{parked}", &parked_behind("' || rest.event_id || '"))
                .replace("{aggregates}", aggregates))
        };
        Self {
            lock: sql(LOCK),
            look: sql(LOOK),
            pass_of_rows: of(PASS, OF_ROWS),
            pass_of_aggregates: of(PASS, NAMED),
            park_of_rows: of(PARK, OF_ROWS),
            park_of_aggregates: of(PARK, NAMED),
            is_behind: of(IS_BEHIND, NAMED),
            aggregates: sql(AGGREGATES),
            overdue: of(OVERDUE, NAMED),
            leave: sql(LEAVE),
        }
    }
}

/// For how long a transaction that has the lock may ask nothing before the server ends it: the whole
/// consumer waits for it meanwhile. A unit's is set with the lock; others begin with it.
pub(super) const IDLE: &str = "set_config('idle_in_transaction_session_timeout', '5s', TRUE)";

/// `$1` consumer. To have it alone.
const LOCK: &str = "
    SELECT {idle}
    FROM pg_advisory_xact_lock(hashtextextended($1, '{table}'::regclass::oid::bigint))";

/// `$1` and `$2` the leases' names and terms, `$3` holder, `$4` consumer, `$5` event ids, `$6`
/// aggregates. Holds the leases until the transaction ends, so that nobody else gets them before that.
/// They are locked in the order of the names given, as who takes or extends them does. Events and
/// aggregates are asked for one by one, as rows are elsewhere: a plan that was made while the table was
/// small, and is kept, would else read all of it.
const LOOK: &str = "
    SELECT
        (SELECT COUNT(*) FROM (
            SELECT lease.name FROM {leases} AS lease
            JOIN unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS held(name, term, place)
                ON lease.name = held.name AND lease.term = held.term
            WHERE lease.holder = $3 ORDER BY held.place FOR SHARE OF lease) AS held),
        nextval('{positions}'),
        (SELECT array_agg(event.id) FROM unnest($5::text[]) AS event(id) CROSS JOIN LATERAL (
            SELECT FROM {table} AS inbox
            WHERE inbox.consumer = $4 AND inbox.event_id = event.id LIMIT 1) AS known),
        (SELECT array_agg(aggregate.id)
            FROM unnest($6::uuid[]) AS aggregate(id) CROSS JOIN LATERAL (
                SELECT FROM {table} AS inbox
                WHERE inbox.consumer = $4 AND inbox.aggregate_id = aggregate.id
                    AND {unfinished} LIMIT 1) AS busy),
        held.aggregates, held.events
    FROM (
        SELECT array_agg(aggregate.id) AS aggregates, array_agg(head.event_id) AS events
        FROM unnest($6::uuid[]) AS aggregate(id) CROSS JOIN LATERAL (
            SELECT inbox.event_id FROM {table} AS inbox
            WHERE inbox.consumer = $4 AND inbox.aggregate_id = aggregate.id AND {holds}
            ORDER BY inbox.position LIMIT 1) AS head) AS held";

/// The aggregates of rows.
const OF_ROWS: &str = "
    SELECT DISTINCT ended.aggregate_id AS id FROM unnest($2::uuid[]) AS row(id)
    CROSS JOIN LATERAL (
        SELECT inbox.aggregate_id FROM {table} AS inbox
        WHERE inbox.id = row.id AND inbox.position > 0 LIMIT 1) AS ended";

/// The aggregates themselves.
const NAMED: &str = "SELECT unnest($2::uuid[]) AS id";

/// The rows whose turn it is: of each aggregate the first that waits, unless another may run, or one
/// before it holds it up. Asked for one by one: joined, all that waits might be read.
const TURNS: &str = "
    SELECT head.id FROM aggregate CROSS JOIN LATERAL (
        SELECT inbox.id, inbox.position FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.aggregate_id = aggregate.id
            AND {unfinished} AND {waits} = 1
        ORDER BY inbox.position LIMIT 1) AS head
    WHERE (
        SELECT TRUE FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.aggregate_id = aggregate.id
            AND {unfinished} AND {waits} = 0
            AND (inbox.position < head.position
                OR inbox.next_retry_at IS DISTINCT FROM 'infinity')
        LIMIT 1) IS NULL
    AND (
        SELECT TRUE FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.aggregate_id = aggregate.id
            AND {holds} AND inbox.position < head.position
        LIMIT 1) IS NULL";

/// `$1` consumer, `$2` the rows or the aggregates. That a row waits is asked once more: whoever passed it the
/// turn meanwhile may have had it run.
const PASS: &str = "
    WITH aggregate AS MATERIALIZED ({aggregates}), next AS MATERIALIZED ({turns})
    UPDATE {table} AS inbox SET next_retry_at = NULL
    FROM next WHERE inbox.id = next.id AND inbox.next_retry_at = {turn}
        AND {status} IN ('pending', 'failed')";

/// `$1` consumer, `$2` the aggregates.
const OVERDUE: &str = "WITH aggregate AS MATERIALIZED ({aggregates})
    SELECT inbox.aggregate_id FROM {table} AS inbox JOIN ({turns}) AS next ON inbox.id = next.id";

/// `$1` consumer, `$2` the rows or the aggregates, `$3` limit: what waits behind a dead letter.
const BEHIND: &str = "
    WITH aggregate AS MATERIALIZED ({aggregates}),
    head AS MATERIALIZED (
        SELECT aggregate.id, head.event_id, head.position
        FROM aggregate CROSS JOIN LATERAL (
            SELECT inbox.event_id, inbox.position FROM {table} AS inbox
            WHERE inbox.consumer = $1 AND inbox.aggregate_id = aggregate.id AND {holds}
            ORDER BY inbox.position LIMIT 1) AS head),
    rest AS MATERIALIZED (
        SELECT rest.id, head.event_id FROM head CROSS JOIN LATERAL (
            SELECT inbox.id FROM {table} AS inbox
            WHERE inbox.consumer = $1 AND inbox.aggregate_id = head.id
                AND {unfinished} AND {waits} = 1 AND inbox.position > head.position
            ORDER BY inbox.position LIMIT $3) AS rest
        LIMIT $3)";

/// As [`BEHIND`].
const PARK: &str = "{behind}
    UPDATE {table} AS inbox SET
        status = 'dead_letter', last_error_at = {now}, error_message = '{parked}'
    FROM rest WHERE inbox.id = rest.id";

/// As [`BEHIND`].
const IS_BEHIND: &str = "{behind} SELECT EXISTS (SELECT FROM rest)";

/// `$1` consumer, `$2` the first aggregate to look at, `$3` limit: those from it on with an event that
/// is not done. Where it begins is never null, so that an index can begin there in any plan.
const AGGREGATES: &str = "
    WITH RECURSIVE aggregate(id, number) AS (
        (SELECT inbox.aggregate_id, 1::bigint FROM {table} AS inbox
            WHERE inbox.consumer = $1 AND inbox.aggregate_id >= $2 AND {unfinished}
            ORDER BY inbox.aggregate_id LIMIT 1)
        UNION ALL
        SELECT next.aggregate_id, aggregate.number + 1
        FROM aggregate CROSS JOIN LATERAL (
            SELECT inbox.aggregate_id FROM {table} AS inbox
            WHERE inbox.consumer = $1 AND inbox.aggregate_id > aggregate.id AND {unfinished}
            ORDER BY inbox.aggregate_id LIMIT 1) AS next
        WHERE aggregate.number < $3)
    SELECT id FROM aggregate";

/// `$1` consumer.
const LEAVE: &str = "
    WITH waiting AS MATERIALIZED (
        SELECT inbox.id FROM {table} AS inbox
        WHERE inbox.consumer = $1 AND inbox.status IN ('pending', 'failed') AND {due} = {turn}
        ORDER BY inbox.id FOR UPDATE)
    UPDATE {table} AS inbox SET next_retry_at = NULL
    FROM waiting WHERE inbox.id = waiting.id";

/// Takes the lock of a consumer's order, to have it alone until the transaction ends.
pub(super) async fn lock(
    connection: &mut PgConnection,
    statements: &Statements,
    consumer: &str,
) -> Result<(), sqlx::Error> {
    let lock = sqlx::query(statements.turn.lock.text()).bind(consumer);
    lock.execute(connection).await.map(drop)
}

/// Stores arrivals behind those of their aggregates; `None` if the lease is over.
pub(super) async fn insert(
    connection: &mut PgConnection,
    statements: &Statements,
    (holder, reader): (&Holder, &ReaderLease),
    policy: OrderPolicy,
    arrivals: Vec<Arrival>,
) -> Result<Option<Insertion>, sqlx::Error> {
    lock(connection, statements, &holder.consumer).await?;
    let Some(standing) = look(connection, statements, (holder, reader), &arrivals).await? else {
        return Ok(None);
    };
    let placed = place(&arrivals, policy, standing);
    let entered = if placed.is_empty() {
        Entered::Only(Ids::default())
    } else {
        let insert = Insert {
            statements,
            holder,
            run_as: Status::Processing,
        };
        insert.in_order(connection, &placed).await?
    };
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

/// Looks where arrivals are to stand; `None` if the lease is over.
async fn look(
    connection: &mut PgConnection,
    statements: &Statements,
    (holder, reader): (&Holder, &ReaderLease),
    arrivals: &[Arrival],
) -> Result<Option<Standing>, sqlx::Error> {
    let events = || arrivals.iter().map(|arrival| arrival.envelope.metadata());
    let aggregates: HashSet<Uuid> = events().map(|event| event.aggregate_id).collect();
    let mut parameters = Parameters::default();
    parameters.array(reader.names.iter().map(String::as_str))?;
    parameters.array(reader.terms.iter().copied())?;
    parameters.value(holder.name.as_str())?;
    parameters.value(holder.consumer.as_str())?;
    parameters.array(events().map(|event| event.event_id.as_str()))?;
    parameters.array(aggregates.into_iter())?;
    let look = parameters.of(&statements.turn.look);
    let seen = look.fetch_one(connection).await?;
    let held: i64 = seen.try_get(0)?;
    if usize::try_from(held) != Ok(reader.names.len()) {
        return Ok(None);
    }
    let known: Option<Vec<String>> = seen.try_get(2)?;
    let busy: Option<Vec<Uuid>> = seen.try_get(3)?;
    let held_aggregates: Option<Vec<Uuid>> = seen.try_get(4)?;
    let heads: Option<Vec<String>> = seen.try_get(5)?;
    let held = held_aggregates.into_iter().flatten();
    let held: HashMap<_, _> = held.zip(heads.into_iter().flatten()).collect();
    Ok(Some(Standing {
        number: seen.try_get(1)?,
        known: known.into_iter().flatten().collect(),
        busy: busy.into_iter().flatten().collect(),
        held,
    }))
}

/// Passes the turns on of settled rows; answers whether one was. The lock is to be had before.
pub(super) async fn pass(
    connection: &mut PgConnection,
    statements: &Statements,
    policy: OrderPolicy,
    consumer: &str,
    settlements: &[Settlement],
) -> Result<bool, sqlx::Error> {
    // One that is left for a later deploy lets those before it go on that were requeued.
    let ended = settlements.iter().filter(|settlement| {
        matches!(
            settlement.status,
            Status::Processed | Status::DeadLetter | Status::Pending
        )
    });
    let ended: Vec<Uuid> = ended.map(|settlement| settlement.lease.id).collect();
    if ended.is_empty() {
        return Ok(false);
    }
    let is_dead = |settlement: &&Settlement| settlement.status == Status::DeadLetter;
    let dead: Vec<Uuid> = settlements
        .iter()
        .filter(is_dead)
        .map(|settlement| settlement.lease.id)
        .collect();
    pass_on(connection, statements, policy, consumer, ended, dead).await
}

/// As [`pass`], of rows that have ended; of those the dead letters.
pub(super) async fn pass_on(
    connection: &mut PgConnection,
    statements: &Statements,
    policy: OrderPolicy,
    consumer: &str,
    ended: Vec<Uuid>,
    dead: Vec<Uuid>,
) -> Result<bool, sqlx::Error> {
    let pass = sqlx::query(statements.turn.pass_of_rows.text())
        .bind(consumer)
        .bind(ended);
    let passed = pass.execute(&mut *connection).await?.rows_affected();
    if policy == OrderPolicy::Park && !dead.is_empty() {
        park(connection, &statements.turn.park_of_rows, consumer, dead).await?;
    }
    Ok(passed > 0)
}

/// Whether something waits in aggregates behind a dead letter.
pub(super) async fn is_behind(
    connection: &mut PgConnection,
    statements: &Statements,
    consumer: &str,
    aggregates: &[Uuid],
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(statements.turn.is_behind.text())
        .bind(consumer)
        .bind(aggregates.to_vec())
        .bind(1_i64)
        .fetch_one(connection)
        .await
}

/// Makes dead letters of what waits in aggregates behind a dead letter; answers whether that is all.
/// The lock is to be had alone before.
pub(super) async fn park_of_aggregates(
    connection: &mut PgConnection,
    statements: &Statements,
    consumer: &str,
    aggregates: Vec<Uuid>,
) -> Result<bool, sqlx::Error> {
    let sql = &statements.turn.park_of_aggregates;
    park(connection, sql, consumer, aggregates).await
}

async fn park(
    connection: &mut PgConnection,
    sql: &Sql,
    consumer: &str,
    behind: Vec<Uuid>,
) -> Result<bool, sqlx::Error> {
    let park = sqlx::query(sql.text())
        .bind(consumer)
        .bind(behind)
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

/// Passes the turns of aggregates on; the lock is to be had alone before.
pub(super) async fn pass_of_aggregates(
    connection: &mut PgConnection,
    statements: &Statements,
    consumer: &str,
    aggregates: Vec<Uuid>,
) -> Result<u64, sqlx::Error> {
    if aggregates.is_empty() {
        return Ok(0);
    }
    let pass = sqlx::query(statements.turn.pass_of_aggregates.text())
        .bind(consumer)
        .bind(aggregates);
    Ok(pass.execute(connection).await?.rows_affected())
}

/// The next aggregates from one on that have an event which is not done, and of those the ones where a
/// turn was not passed on.
pub(super) async fn overdue(
    connection: &mut PgConnection,
    statements: &Statements,
    consumer: &str,
    from: Uuid,
) -> Result<(Vec<Uuid>, Vec<Uuid>), sqlx::Error> {
    let aggregates: Vec<Uuid> = sqlx::query_scalar(statements.turn.aggregates.text())
        .bind(consumer)
        .bind(from)
        .bind(AGGREGATES_AT_ONCE)
        .fetch_all(&mut *connection)
        .await?;
    let overdue = sqlx::query_scalar(statements.turn.overdue.text())
        .bind(consumer)
        .bind(aggregates.clone())
        .fetch_all(connection)
        .await?;
    Ok((aggregates, overdue))
}
