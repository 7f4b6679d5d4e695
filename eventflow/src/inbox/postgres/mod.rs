//! The inbox in PostgreSQL.
//!
//! Every statement is an own short transaction but those of a unit of work. Any number of processes
//! share a table: rows are claimed with `SKIP LOCKED`, so none waits for another.

mod adopt;
mod batch;
mod builder;
mod check;
mod index;
mod migrate;
mod ordered;
mod row;
mod sql;
mod turn;
mod unit;

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    PgConnection, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::sync::watch;
use uuid::Uuid;

pub use self::{builder::PgInboxBuilder, unit::PgUnit};
use self::{
    row::{entered, lease, record, settled},
    sql::Statements,
};
use crate::{
    database::{
        columns::{from_micros, micros},
        identifier::Identifier,
        postgres::{
            connection::run,
            lease::Leases,
            parameters::{Parameters, Statement},
            place::Connected,
            session::Session,
            table::Table,
        },
        sql::Sql,
        task::uncut,
    },
    error::Error,
    fail_point,
    inbox::{
        Arrival, Counts, DeadLetter, Demand, Due, Holder, Inbox, Insertion, Lease, Order,
        ReaderLease, Recovery, Retention, Row, Settlement, Status, UnitLost, failed,
        record::{claimed, insertion, recovery},
        sealed::Sealed,
    },
    outbox::{self, PgOutbox},
};

/// The inbox in PostgreSQL, version 12 or newer.
///
/// Cloning is cheap; clones share their connections.
///
/// # Examples
/// ```no_run
/// use eventflow::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let inbox = PgInbox::connect("postgres://localhost/shop").await?;
/// inbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PgInbox {
    pool: PgPool,
    settings: Arc<Settings>,
    order: Option<Order>,
}

struct Settings {
    table: Table,
    statements: Arc<Statements>,
    leases: Leases,
    /// Who owns the rows of an adopted table.
    consumer: Option<String>,
    /// How to open connections; none if the pool is the user's.
    options: Option<PgConnectOptions>,
    session: Session,
    max_connections: Option<u32>,
    /// Changes when this process has committed what handlers published.
    published: watch::Sender<()>,
}

impl Settings {
    /// Runs one statement, as the pool needs it.
    async fn run<T>(
        &self,
        pool: &PgPool,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let is_users = self.options.is_none();
        run(pool, is_users, self.session.patience(), statement).await
    }
}

impl PgInbox {
    /// Connects to a database, with the default settings: table `event_inbox` in the first schema
    /// of the search path.
    ///
    /// # Errors
    /// If the URL cannot be read, or if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Starts with the settings of a database.
    pub fn builder(url: &str) -> PgInboxBuilder {
        PgInboxBuilder::url(url)
    }

    /// Starts with a pool of the user's, which must have the connections that the consumer asks
    /// for: its workers and two more.
    ///
    /// A handler that is cut while it begins a transaction of its own on such a pool leaves the
    /// connection inside of it (sqlx 0.9.0). The inbox commits each statement there by a
    /// transaction of its own, which costs two round trips more.
    pub fn with_pool(pool: PgPool) -> PgInboxBuilder {
        PgInboxBuilder::pool(pool)
    }

    /// The SQL that creates the table `event_inbox`, for teams with migrations of their own; for
    /// other names see [`PgInboxBuilder::schema_sql`].
    pub fn schema_sql() -> String {
        PgInboxBuilder::url("").schema_sql().unwrap_or_default()
    }

    /// Runs one statement and gives its rows.
    async fn rows(&self, what: &'static str, statement: Statement) -> Result<Vec<PgRow>, Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let rows = settings.run(&pool, async |connection| {
                statement.fetch_all(connection).await
            });
            rows.await
                .map_err(|error| failed(format!("{what} in {}", settings.table), error))
        })
        .await
    }

    /// Asks how long until something is to happen to a consumer's rows.
    async fn wait(
        &self,
        what: &'static str,
        sql: &Sql,
        consumer: &str,
    ) -> Result<Option<Duration>, Error> {
        let statement = statement(sql).bind(consumer.to_owned());
        let rows = self.rows(what, statement).await?;
        let waits = self.read(&rows, |row| row.try_get(0))?;
        Ok(waits.first().copied().map(from_micros))
    }

    /// Runs one writing statement and counts the rows that it changed.
    async fn change(&self, what: &'static str, statement: Statement) -> Result<u64, Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let done = settings.run(&pool, async |connection| {
                statement.execute(connection).await
            });
            done.await
                .map(|done| done.rows_affected())
                .map_err(|error| failed(format!("{what} in {}", settings.table), error))
        })
        .await
    }

    /// Reads rows that one statement gave.
    fn read<T>(
        &self,
        rows: &[PgRow],
        read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Error> {
        rows.iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: sqlx::Error) -> Error {
        let table = &self.settings.table;
        failed(format!("a row of {table} cannot be read"), error)
    }

    /// The statement of a batch.
    fn batch(
        &self,
        sql: &Sql,
        parameters: Result<Parameters, sqlx::Error>,
    ) -> Result<Statement, Error> {
        let parameters = parameters.map_err(|error| {
            let table = &self.settings.table;
            failed(format!("a batch for {table} cannot be written"), error)
        })?;
        Ok(parameters.of(sql))
    }
}

fn statement(sql: &Sql) -> Statement {
    sqlx::query(sql.text())
}

impl Sealed for PgInbox {}

impl Inbox for PgInbox {
    type Connection = PgConnection;
    type Unit = PgUnit;
    type Outbox = PgOutbox;

    async fn migrate(&self) -> Result<(), Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let consumer = settings.consumer.as_deref();
            migrate::migrate(&pool, &settings.table, consumer).await
        })
        .await
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        uncut(async move {
            let mut connection = connection(&pool).await?;
            check::check(&mut connection, &settings.table).await
        })
        .await
    }

    /// With connections of its own, unless they are the user's: a relay then does not wait for handlers.
    fn outbox(&self) -> PgOutbox {
        let Settings {
            table,
            options,
            session,
            ..
        } = &*self.settings;
        let pool = match options {
            Some(options) => session.pool(options, outbox::CONNECTIONS, Duration::ZERO),
            None => self.pool.clone(),
        };
        let table = Table {
            schema: table.schema.clone(),
            name: Identifier::constant(outbox::TABLE),
        };
        let connected = Connected {
            pool,
            options: options.clone(),
            table,
            session: session.clone(),
        };
        PgOutbox::new(connected, true, self.settings.published.clone())
    }

    async fn check_outbox(&self, outbox: &PgOutbox) -> Result<(), Error> {
        let (pool, outbox) = (self.pool.clone(), outbox.clone());
        uncut(async move { outbox.check_in(&mut *connection(&pool).await?).await }).await
    }

    fn sized_for(&self, demand: Demand<'_>) -> Result<Self, Error> {
        let Settings {
            consumer,
            options,
            session,
            max_connections,
            ..
        } = &*self.settings;
        if let Some(owner) = consumer
            .as_deref()
            .filter(|&owner| owner != demand.consumer)
        {
            return Err(Error::configuration(format!(
                "the inbox's rows belong to `{owner}`, and the consumer's name is `{}`: give both the same name, or the inbox none",
                demand.consumer
            )));
        }
        let most = match options {
            None => Some(self.pool.options().get_max_connections()),
            Some(_) => *max_connections,
        };
        if let Some(most) = most.filter(|&most| most < demand.connections) {
            return Err(Error::configuration(format!(
                "the consumer needs {} connections, and the inbox may open {most}: give it more, or the consumer fewer workers",
                demand.connections
            )));
        }
        let mut sized = self.clone();
        if let Some(options) = options {
            let connections = most.unwrap_or(demand.connections);
            sized.pool = session.pool(options, connections, demand.longest_handler);
        }
        Ok(sized)
    }

    /// As many as the consumer has workers: so many connections there are, or it is not built.
    fn units_at_once(&self) -> usize {
        usize::MAX
    }

    fn guards_units(&self) -> bool {
        self.settings.session.options
    }

    async fn insert(&self, holder: &Holder, arrivals: Vec<Arrival>) -> Result<Insertion, Error> {
        let arrivals = batch::keep_refused_as_bytes(arrivals);
        let parameters = batch::arrivals(&arrivals, Status::Processing, holder);
        let statement = self.batch(&self.settings.statements.insert, parameters)?;
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        let rows = uncut(async move {
            let rows = settings.run(&pool, async |connection| {
                fail_point::insert(connection, statement).await
            });
            rows.await.map_err(|error| {
                let table = &settings.table;
                failed(format!("events could not be stored in {table}"), error)
            })
        })
        .await?;
        let entered = entered(&rows).map_err(|error| self.unreadable(error))?;
        Ok(insertion(arrivals, entered))
    }

    async fn claim(&self, holder: &Holder, due: Due, limit: u32) -> Result<Vec<Row>, Error> {
        let statements = &self.settings.statements;
        let sql = match due {
            Due::Now => &statements.claim_now,
            Due::Later => &statements.claim_later,
        };
        let statement = statement(sql)
            .bind(holder.consumer.clone())
            .bind(i64::from(limit))
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        let rows = self.rows("events could not be claimed", statement).await?;
        let rows = self.read(&rows, |row| {
            let due: DateTime<Utc> = row.try_get("due")?;
            Ok((due, from_micros(row.try_get("wait")?), record(row)?))
        })?;
        Ok(claimed(rows))
    }

    async fn recover(&self, holder: &Holder) -> Result<Recovery, Error> {
        if let Some(order) = self.order.clone() {
            return self.recover_in_order(holder, order).await;
        }
        let statement = statement(&self.settings.statements.recover)
            .bind(holder.consumer.clone())
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        let what = "a lapsed row could not be recovered";
        let rows = self.rows(what, statement).await?;
        let recovered = self.read(&rows, |row| {
            let status: String = row.try_get("status")?;
            Ok((status, record(row)?))
        })?;
        Ok(recovery(recovered.into_iter().next()))
    }

    async fn extend(&self, holder: &Holder, leases: Vec<Lease>) -> Result<Vec<Lease>, Error> {
        let statement = self
            .batch(&self.settings.statements.extend, batch::leases(&leases))?
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        let what = "leases could not be extended";
        let rows = self.rows(what, statement).await?;
        self.read(&rows, lease)
    }

    async fn release(&self, leases: Vec<Lease>, delay: Duration) -> Result<u64, Error> {
        let statement = self
            .batch(&self.settings.statements.release, batch::leases(&leases))?
            .bind(micros(delay));
        self.change("events could not be handed back", statement)
            .await
    }

    async fn settle(
        &self,
        holder: &Holder,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, Error> {
        if let Some(order) = self.order.clone() {
            return self.settle_in_order(holder, order, settlements).await;
        }
        let statements = &self.settings.statements;
        let (sql, parameters) = batch::settling(statements, None, settlements, holder);
        let statement = self.batch(sql, parameters)?;
        let rows = self.rows("rows could not be settled", statement).await?;
        settled(&rows).map_err(|error| self.unreadable(error))
    }

    fn in_order(&self, order: Order) -> Self {
        Self {
            order: Some(order),
            ..self.clone()
        }
    }

    async fn acquire_reading(
        &self,
        holder: &Holder,
        streams: &[Arc<str>],
    ) -> Result<Option<ReaderLease>, Error> {
        self.take_reading(holder, streams).await
    }

    async fn extend_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<bool, Error> {
        self.keep_reading(holder, reader).await
    }

    async fn release_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<(), Error> {
        self.leave_reading(holder, reader).await
    }

    async fn insert_in_order(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
        arrivals: Vec<Arrival>,
    ) -> Result<Option<Insertion>, Error> {
        self.store_in_order(holder, reader, arrivals).await
    }

    async fn pass_turns(&self, consumer: &str) -> Result<u64, Error> {
        self.pass_overdue_turns(consumer).await
    }

    async fn leave_order(&self, consumer: &str) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.turn.leave).bind(consumer.to_owned());
        self.change("waiting events could not be made due", statement)
            .await
    }

    async fn begin(&self) -> Result<PgUnit, UnitLost> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        let order = self.order.clone();
        uncut(async move { PgUnit::begin(pool, &settings, order).await }).await
    }

    async fn backlog(&self, consumer: &str, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.backlog)
            .bind(consumer.to_owned())
            .bind(i64::from(limit));
        let rows = self
            .rows("due rows could not be counted", statement)
            .await?;
        let counts: Vec<i64> = self.read(&rows, |row| row.try_get(0))?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    async fn count_stored(&self, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.stored).bind(ids.to_vec());
        let rows = self
            .rows("stored rows could not be counted", statement)
            .await?;
        let counts: Vec<i64> = self.read(&rows, |row| row.try_get(0))?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    async fn next_due(&self, consumer: &str) -> Result<Option<Duration>, Error> {
        let what = "the next run could not be looked up";
        let sql = &self.settings.statements.next_due;
        self.wait(what, sql, consumer).await
    }

    async fn next_lapse(&self, consumer: &str) -> Result<Option<Duration>, Error> {
        let what = "the next lapse could not be looked up";
        let sql = &self.settings.statements.next_lapse;
        self.wait(what, sql, consumer).await
    }

    async fn unpark(&self, consumer: &str, event_types: Option<&[&str]>) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.unpark)
            .bind(consumer.to_owned())
            .bind(event_types.map(owned));
        self.change_in_order("parked events could not be made due", consumer, statement)
            .await
    }

    async fn purge(&self, consumer: &str, retention: Retention, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.purge)
            .bind(consumer.to_owned())
            .bind(micros(retention.processed))
            .bind(micros(retention.dead_letter))
            .bind(i64::from(limit));
        self.change("finished rows could not be deleted", statement)
            .await
    }

    async fn counts(&self, consumer: &str) -> Result<Counts, Error> {
        let statement = statement(&self.settings.statements.counts).bind(consumer.to_owned());
        let what = "rows could not be counted";
        let rows = self.rows(what, statement).await?;
        let counts = self.read(&rows, |row| {
            let count = |index| {
                let count: i64 = row.try_get(index)?;
                Ok::<_, sqlx::Error>(u64::try_from(count).unwrap_or(0))
            };
            Ok(Counts {
                pending: count(0)?,
                processing: count(1)?,
                processed: count(2)?,
                failed: count(3)?,
                dead_letter: count(4)?,
            })
        })?;
        Ok(counts.into_iter().next().unwrap_or_default())
    }

    async fn dead_letters(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let statement = statement(&self.settings.statements.dead_letters)
            .bind(consumer.to_owned())
            .bind(i64::from(limit));
        let what = "dead letters could not be listed";
        let rows = self.rows(what, statement).await?;
        self.read(&rows, |row| {
            let died_at: DateTime<Utc> = row.try_get("died_at")?;
            Ok(record(row)?.into_dead_letter(row.try_get("error_message")?, died_at))
        })
    }

    async fn requeue(&self, consumer: &str, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.requeue)
            .bind(consumer.to_owned())
            .bind(ids.to_vec());
        self.change_in_order("dead letters could not be requeued", consumer, statement)
            .await
    }

    async fn discard(&self, consumer: &str, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.discard)
            .bind(consumer.to_owned())
            .bind(ids.to_vec());
        self.change_in_order("dead letters could not be deleted", consumer, statement)
            .await
    }
}

/// Takes a connection from the pool.
pub(crate) async fn connection(pool: &PgPool) -> Result<PoolConnection<Postgres>, Error> {
    let connection = pool.acquire().await;
    connection.map_err(|error| failed("the database gave no connection", error))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl fmt::Debug for PgInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgInbox")
            .field("table", &self.settings.table.to_string())
            .finish_non_exhaustive()
    }
}
