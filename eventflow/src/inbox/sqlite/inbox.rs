//! What an inbox does, statement by statement.

use std::{sync::Arc, time::Duration};

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    Database, SqliteInbox, SqliteUnit, batch::leases_json, insert::Insert, migrate, row, settle,
    statement, unit,
};
use crate::{
    database::{columns::micros, identifier::Identifier, sqlite::values::json, task::uncut},
    error::Error,
    inbox::{
        Arrival, Counts, DeadLetter, Demand, Due, Holder, Inbox, Insertion, Lease, Recovery,
        Retention, Row, Settlement, Status, UnitLost, failed, record, sealed::Sealed,
    },
    outbox::{self, SqliteOutbox},
};

impl Sealed for SqliteInbox {}

impl Inbox for SqliteInbox {
    type Connection = SqliteConnection;
    type Unit = SqliteUnit;
    type Outbox = SqliteOutbox;

    async fn migrate(&self) -> Result<(), Error> {
        let database = Arc::clone(&self.database);
        uncut(async move {
            let mut connection = database.connection().await?;
            migrate::migrate(&mut connection, &database.table).await
        })
        .await
    }

    async fn check_schema(&self) -> Result<(), Error> {
        let database = Arc::clone(&self.database);
        uncut(async move {
            let mut connection = database.connection().await?;
            migrate::check(&mut connection, &database.table).await
        })
        .await
    }

    fn outbox(&self) -> SqliteOutbox {
        let table = Identifier::constant(outbox::TABLE);
        let Database {
            connections,
            published,
            ..
        } = &*self.database;
        SqliteOutbox::new(table, Arc::clone(connections), published.clone())
    }

    async fn check_outbox(&self, outbox: &SqliteOutbox) -> Result<(), Error> {
        let (database, outbox) = (Arc::clone(&self.database), outbox.clone());
        uncut(async move { outbox.check_in(&mut *database.connection().await?).await }).await
    }

    /// One connection writes, whatever the demand: SQLite takes no more.
    fn sized_for(&self, _demand: Demand<'_>) -> Result<Self, Error> {
        Ok(self.clone())
    }

    /// There is one connection that writes.
    fn units_at_once(&self) -> usize {
        1
    }

    fn guards_units(&self) -> bool {
        true
    }

    async fn insert(&self, holder: &Holder, arrivals: Vec<Arrival>) -> Result<Insertion, Error> {
        let (database, holder) = (Arc::clone(&self.database), holder.clone());
        uncut(async move {
            let mut connection = database.connection().await?;
            let Database {
                statements, table, ..
            } = &*database;
            let insert = Insert {
                statements,
                holder: &holder,
                run_as: Status::Processing,
            };
            insert
                .alone(&mut connection, &arrivals)
                .await
                .map(|entered| record::insertion(arrivals, &entered))
                .map_err(|error| failed(format!("events could not be stored in {table}"), error))
        })
        .await
    }

    /// An insert finds out in any case which rows are its own.
    async fn insert_again(
        &self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> Result<Insertion, Error> {
        self.insert(holder, arrivals).await
    }

    async fn claim(&self, holder: &Holder, due: Due, limit: u32) -> Result<Vec<Row>, Error> {
        let statements = &self.database.statements;
        let sql = match due {
            Due::Now => &statements.claim_now,
            Due::Later => &statements.claim_later,
        };
        let statement = statement(sql)
            .bind(holder.consumer.clone())
            .bind(limit)
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        let what = "events could not be claimed";
        let rows = self.written(what, statement, row::claimed).await?;
        Ok(record::claimed(rows))
    }

    async fn recover(&self, holder: &Holder) -> Result<Recovery, Error> {
        let policy = self.order.as_ref().map(|order| order.policy);
        let statement = statement(self.database.statements.recover_by(policy))
            .bind(holder.consumer.clone())
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        if let Some(order) = self.order.clone() {
            return self.recover_in_order(holder, order, statement).await;
        }
        let what = "a lapsed row could not be recovered";
        let rows = self.written(what, statement, row::recovered).await?;
        Ok(record::recovery(rows.into_iter().next()))
    }

    async fn extend(&self, holder: &Holder, leases: Vec<Lease>) -> Result<Vec<Lease>, Error> {
        let statement = statement(&self.database.statements.extend)
            .bind(self.batch(leases_json(&leases))?)
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        self.written("leases could not be extended", statement, row::lease)
            .await
    }

    async fn release(&self, leases: Vec<Lease>, delay: Duration) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.release)
            .bind(self.batch(leases_json(&leases))?)
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
        if self.settle_processed(settlements).await? {
            return Ok(settlements.iter().map(|settled| settled.lease).collect());
        }
        let settle = settle::settle(&self.database.statements.settle, holder, settlements);
        let statement = settle.map_err(|error| self.unwritten(error))?;
        self.written("rows could not be settled", statement, row::lease)
            .await
    }

    async fn begin(&self) -> Result<SqliteUnit, UnitLost> {
        let (database, order) = (Arc::clone(&self.database), self.order.clone());
        uncut(async move {
            let connection = database.connections.writer.acquire().await;
            let connection =
                connection.map_err(|error| unit::lost("a unit of work could not begin", error))?;
            SqliteUnit::begin(connection, Arc::clone(&database.statements), order).await
        })
        .await
    }

    async fn backlog(&self, consumer: &str, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.backlog)
            .bind(consumer.to_owned())
            .bind(limit);
        self.count("due rows could not be counted", statement).await
    }

    async fn count_stored(&self, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.stored).bind(self.batch(json(ids))?);
        self.count("stored rows could not be counted", statement)
            .await
    }

    async fn next_due(&self, consumer: &str) -> Result<Option<Duration>, Error> {
        let what = "the next run could not be looked up";
        let sql = &self.database.statements.next_due;
        self.wait(what, sql, consumer).await
    }

    async fn next_lapse(&self, consumer: &str) -> Result<Option<Duration>, Error> {
        let what = "the next lapse could not be looked up";
        let sql = &self.database.statements.next_lapse;
        self.wait(what, sql, consumer).await
    }

    async fn unpark(&self, consumer: &str, event_types: Option<&[&str]>) -> Result<u64, Error> {
        let event_types = event_types
            .map(|types| self.batch(json(types)))
            .transpose()?;
        let statement = statement(&self.database.statements.unpark)
            .bind(consumer.to_owned())
            .bind(event_types);
        self.change_in_order("parked events could not be made due", consumer, statement)
            .await
    }

    async fn purge(&self, consumer: &str, retention: Retention, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.purge)
            .bind(consumer.to_owned())
            .bind(micros(retention.processed))
            .bind(micros(retention.dead_letter))
            .bind(limit);
        self.change("finished rows could not be deleted", statement)
            .await
    }

    async fn counts(&self, consumer: &str) -> Result<Counts, Error> {
        let statement = statement(&self.database.statements.counts).bind(consumer.to_owned());
        let what = "rows could not be counted";
        let counts = self.seen(what, statement, record::counts).await?;
        Ok(counts.into_iter().next().unwrap_or_default())
    }

    async fn dead_letters(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let statement = statement(&self.database.statements.dead_letters)
            .bind(consumer.to_owned())
            .bind(limit);
        let what = "dead letters could not be listed";
        self.seen(what, statement, row::dead_letter).await
    }

    async fn requeue(&self, consumer: &str, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.requeue)
            .bind(consumer.to_owned())
            .bind(self.batch(json(ids))?);
        self.change_in_order("dead letters could not be requeued", consumer, statement)
            .await
    }

    async fn discard(&self, consumer: &str, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.database.statements.discard)
            .bind(consumer.to_owned())
            .bind(self.batch(json(ids))?);
        self.change_in_order("dead letters could not be deleted", consumer, statement)
            .await
    }
}
