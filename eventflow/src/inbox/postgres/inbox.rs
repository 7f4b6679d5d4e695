//! What an inbox does, statement by statement.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    PgInbox, PgUnit, Settings, check, connection,
    insert::{Insert, as_stored},
    migrate, row, settle, statement,
    unit::Guard,
};
use crate::{
    database::{
        columns::micros,
        identifier::Identifier,
        postgres::{place::Connected, table::Table},
        task::uncut,
    },
    error::Error,
    fail_point,
    inbox::{
        Arrival, Counts, DeadLetter, Demand, Due, Holder, Inbox, Insertion, Lease, Recovery,
        Retention, Row, Settlement, Status, UnitLost, failed, record, sealed::Sealed,
    },
    outbox::{self, PgOutbox},
};

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
        self.store(holder, arrivals, false).await
    }

    async fn insert_again(
        &self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
    ) -> Result<Insertion, Error> {
        self.store(holder, arrivals, true).await
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
        let what = "events could not be claimed";
        let rows = self.rows(what, statement, row::claimed).await?;
        Ok(record::claimed(rows))
    }

    async fn recover(&self, holder: &Holder) -> Result<Recovery, Error> {
        let policy = self.order.as_ref().map(|order| order.policy);
        let statement = statement(self.settings.statements.recover_by(policy))
            .bind(holder.consumer.clone())
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        if let Some(order) = self.order.clone() {
            return self.recover_in_order(holder, order, statement).await;
        }
        let what = "a lapsed row could not be recovered";
        let rows = self.rows(what, statement, row::recovered).await?;
        Ok(record::recovery(rows.into_iter().next()))
    }

    async fn extend(&self, holder: &Holder, leases: Vec<Lease>) -> Result<Vec<Lease>, Error> {
        let statement = self
            .batch(&self.settings.statements.extend, settle::leases(&leases))?
            .bind(holder.name.clone())
            .bind(micros(holder.lease));
        self.rows("leases could not be extended", statement, row::lease)
            .await
    }

    async fn release(&self, leases: Vec<Lease>, delay: Duration) -> Result<u64, Error> {
        let statement = self
            .batch(&self.settings.statements.release, settle::leases(&leases))?
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
        let (pool, settings, holder) = self.shared(holder);
        let settlements = settlements.to_vec();
        uncut(async move {
            let settled = settings.run(&pool, async |connection| {
                let statements = &settings.statements;
                if !settle::all_processed(&settlements) {
                    return settle::settle(connection, statements, None, &holder, &settlements)
                        .await;
                }
                let claims = settle::claims(&settlements);
                settle::settle_processed_alone(connection, statements, claims).await
            });
            settled.await.map_err(|error| {
                let table = &settings.table;
                failed(format!("rows could not be settled in {table}"), error)
            })
        })
        .await
    }

    async fn begin(&self) -> Result<PgUnit, UnitLost> {
        let guard = if self.guards_units() {
            Guard::CursorAndSession
        } else {
            Guard::Cursor
        };
        self.begin_with(guard).await
    }

    async fn begin_unlent(&self) -> Result<PgUnit, UnitLost> {
        self.begin_with(Guard::None).await
    }

    async fn backlog(&self, consumer: &str, limit: u32) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.backlog)
            .bind(consumer.to_owned())
            .bind(i64::from(limit));
        self.count("due rows could not be counted", statement).await
    }

    async fn count_stored(&self, ids: &[Uuid]) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.stored).bind(ids.to_vec());
        self.count("stored rows could not be counted", statement)
            .await
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
        let counts = self.rows(what, statement, record::counts).await?;
        Ok(counts.into_iter().next().unwrap_or_default())
    }

    async fn dead_letters(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let statement = statement(&self.settings.statements.dead_letters)
            .bind(consumer.to_owned())
            .bind(i64::from(limit));
        let what = "dead letters could not be listed";
        self.rows(what, statement, row::dead_letter).await
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

impl PgInbox {
    async fn begin_with(&self, guard: Guard) -> Result<PgUnit, UnitLost> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        let order = self.order.clone();
        uncut(async move { PgUnit::begin(pool, &settings, order, guard).await }).await
    }

    async fn store(
        &self,
        holder: &Holder,
        arrivals: Vec<Arrival>,
        is_repeated: bool,
    ) -> Result<Insertion, Error> {
        let arrivals = as_stored(arrivals);
        let (pool, settings, holder) = self.shared(holder);
        uncut(async move {
            let inserted = settings.run(&pool, async |connection| {
                let insert = Insert {
                    statements: &settings.statements,
                    holder: &holder,
                    run_as: Status::Processing,
                };
                fail_point::insert(connection, async |connection| {
                    if is_repeated {
                        insert.again(connection, &arrivals).await
                    } else {
                        insert.first(connection, &arrivals).await
                    }
                })
                .await
            });
            let entered = inserted.await.map_err(|error| {
                let table = &settings.table;
                failed(format!("events could not be stored in {table}"), error)
            })?;
            Ok(record::insertion(arrivals, &entered))
        })
        .await
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
