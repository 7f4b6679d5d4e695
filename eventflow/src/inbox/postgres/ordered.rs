//! The inbox in Postgres, where it keeps the order per aggregate: transactions of several statements.

use std::sync::Arc;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{PgInbox, insert::as_stored, row::recovered, settle::settle, statement, turn};
use crate::{
    database::{
        postgres::{
            connection::{BEGIN_READ_COMMITTED, run_together},
            parameters::Statement,
        },
        task::uncut,
    },
    error::Error,
    fail_point,
    inbox::{
        Arrival, Holder, Insertion, Lease, Order, OrderPolicy, OrderedInbox, ReaderLease, Recovery,
        Settlement, failed, name_too_long, record::recovery,
    },
};

impl super::Settings {
    /// Runs statements that commit together.
    async fn run_together<T>(
        &self,
        pool: &sqlx::PgPool,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let patience = self.session.patience();
        run_together(pool, BEGIN_READ_COMMITTED, patience, statements).await
    }
}

impl OrderedInbox for PgInbox {
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
        let names = ReaderLease::names(&holder.consumer, streams);
        let names = names.ok_or_else(|| name_too_long(&holder.consumer))?;
        let (pool, settings, holder) = self.shared(holder);
        uncut(async move {
            // Commits together: the leases of all streams.
            let taken = settings.run_together(&pool, async |connection| {
                let Holder { name, lease, .. } = &holder;
                let leases = &settings.leases;
                let terms = leases.acquire_all(connection, &names, name, *lease).await?;
                Ok(terms.map(|terms| ReaderLease { names, terms }))
            });
            taken
                .await
                .map_err(|error| failed("the right to read could not be had", error))
        })
        .await
    }

    async fn extend_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<bool, Error> {
        let (pool, settings, holder) = self.shared(holder);
        let reader = reader.clone();
        uncut(async move {
            let kept = settings.run_together(&pool, async |connection| {
                let (Holder { name, lease, .. }, ReaderLease { names, terms }) = (&holder, &reader);
                let leases = &settings.leases;
                let extended = leases.extend_all(connection, names, name, terms, *lease);
                extended.await
            });
            kept.await
                .map_err(|error| failed("the right to read could not be extended", error))
        })
        .await
    }

    async fn release_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<(), Error> {
        let (pool, settings, holder) = self.shared(holder);
        let reader = reader.clone();
        uncut(async move {
            let left = settings.run_together(&pool, async |connection| {
                let (leases, ReaderLease { names, terms }) = (&settings.leases, &reader);
                let released = leases.release_all(connection, names, &holder.name, terms);
                released.await
            });
            left.await
                .map_err(|error| failed("the right to read could not be given up", error))
        })
        .await
    }

    async fn insert_in_order(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
        arrivals: Vec<Arrival>,
    ) -> Result<Option<Insertion>, Error> {
        let arrivals = as_stored(arrivals);
        let policy = self.policy();
        let (pool, settings, holder) = self.shared(holder);
        let reader = reader.clone();
        uncut(async move {
            // Commits together: that the reader is the one, and its rows.
            let stored = settings.run_together(&pool, async |connection| {
                let (statements, who) = (&settings.statements, (&holder, &reader));
                let stored = turn::insert(connection, statements, who, policy, arrivals).await?;
                fail_point::reach(fail_point::Point::AfterInsert)
                    .await
                    .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
                Ok(stored)
            });
            stored.await.map_err(|error| {
                let table = &settings.table;
                failed(format!("events could not be stored in {table}"), error)
            })
        })
        .await
    }

    async fn pass_turns(&self, consumer: &str) -> Result<u64, Error> {
        let policy = self.policy();
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        let consumer = consumer.to_owned();
        uncut(async move {
            let (mut next, mut passed) = (Some(Uuid::nil()), 0);
            while let Some(from) = next {
                let (statements, consumer) = (&settings.statements, &consumer);
                let looked = settings.run_together(&pool, async |connection| {
                    let (aggregates, overdue) =
                        turn::overdue(connection, statements, consumer, from).await?;
                    let parks = policy == OrderPolicy::Park
                        && turn::is_behind(connection, statements, consumer, &aggregates).await?;
                    Ok((aggregates, overdue, parks))
                });
                let what = "waiting events could not be looked at";
                let looked = looked.await;
                let (aggregates, overdue, parks) = looked
                    .map_err(|error| failed(format!("{what} in {}", settings.table), error))?;
                next = aggregates.last().and_then(following);
                if overdue.is_empty() && !parks {
                    continue;
                }
                // Commits together: turns, looked for once more, now that nobody else passes them on.
                let passing = settings.run_together(&pool, async |connection| {
                    turn::lock(connection, statements, consumer).await?;
                    let all_parked = !parks
                        || turn::park_of_aggregates(connection, statements, consumer, aggregates)
                            .await?;
                    let passed =
                        turn::pass_of_aggregates(connection, statements, consumer, overdue).await?;
                    Ok((passed, all_parked))
                });
                let what = "waiting events could not be given their turn";
                let done = passing.await;
                let (by_now, all_parked) =
                    done.map_err(|error| failed(format!("{what} in {}", settings.table), error))?;
                passed += by_now;
                if !all_parked {
                    next = Some(from);
                }
            }
            Ok(passed)
        })
        .await
    }

    async fn leave_order(&self, consumer: &str) -> Result<u64, Error> {
        let statement = statement(&self.settings.statements.turn.leave).bind(consumer.to_owned());
        self.change("waiting events could not be made due", statement)
            .await
    }
}

impl PgInbox {
    pub(super) async fn settle_in_order(
        &self,
        holder: &Holder,
        order: Order,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, Error> {
        let (pool, settings, holder) = self.shared(holder);
        let settlements = settlements.to_vec();
        uncut(async move {
            // Commits together: the rows' next states, and the turns that they pass on.
            let done = settings.run_together(&pool, async |connection| {
                let (statements, consumer) = (&settings.statements, &holder.consumer);
                let policy = order.policy;
                let settled = settle(connection, statements, Some(policy), &holder, &settlements);
                let held = settled.await?;
                let passed = turn::pass(connection, statements, policy, consumer, &settlements);
                Ok((held, passed.await?))
            });
            let (held, has_passed) = done.await.map_err(|error| {
                let table = &settings.table;
                failed(format!("rows could not be settled in {table}"), error)
            })?;
            if has_passed {
                order.passed.notify_one();
            }
            Ok(held)
        })
        .await
    }

    pub(super) async fn recover_in_order(
        &self,
        holder: &Holder,
        order: Order,
        recover: Statement,
    ) -> Result<Recovery, Error> {
        let (pool, settings, holder) = self.shared(holder);
        uncut(async move {
            // Commits together: the row's next state, and the turn that a dead letter passes on.
            let done = settings.run_together(&pool, async |connection| {
                let Some(row) = recover.fetch_optional(&mut *connection).await? else {
                    return Ok((Recovery::None, false));
                };
                let (status, record) = recovered(&row)?;
                let id = record.id;
                let recovered = recovery(Some((status, record)));
                if !matches!(recovered, Recovery::DeadLetter(_)) {
                    return Ok((recovered, false));
                }
                let (statements, consumer) = (&settings.statements, &holder.consumer);
                turn::lock(connection, statements, consumer).await?;
                let (policy, ended, dead) = (order.policy, vec![id], vec![id]);
                let passed =
                    turn::pass_on(connection, statements, policy, consumer, ended, dead).await?;
                Ok((recovered, passed))
            });
            let (recovered, has_passed) = done.await.map_err(|error| {
                let table = &settings.table;
                failed(
                    format!("a lapsed row could not be recovered in {table}"),
                    error,
                )
            })?;
            if has_passed {
                order.passed.notify_one();
            }
            Ok(recovered)
        })
        .await
    }

    /// Changes rows that have a place among those of their aggregates, and passes their turns on;
    /// answers how many were changed.
    pub(super) async fn change_in_order(
        &self,
        what: &'static str,
        consumer: &str,
        change: Statement,
    ) -> Result<u64, Error> {
        let (pool, settings) = (self.pool.clone(), Arc::clone(&self.settings));
        let consumer = consumer.to_owned();
        let passed = self.order.clone().map(|order| order.passed);
        uncut(async move {
            // Commits together: the rows, and who is next in their aggregates.
            let done = settings.run_together(&pool, async |connection| {
                let statements = &settings.statements;
                turn::lock(connection, statements, &consumer).await?;
                let rows = change.fetch_all(&mut *connection).await?;
                let mut aggregates: Vec<Uuid> = Vec::new();
                for row in &rows {
                    if row.try_get::<i64, _>(1)? > 0 {
                        aggregates.push(row.try_get(0)?);
                    }
                }
                aggregates.sort();
                aggregates.dedup();
                turn::pass_of_aggregates(connection, statements, &consumer, aggregates).await?;
                Ok(rows.len())
            });
            let changed = done
                .await
                .map_err(|error| failed(format!("{what} in {}", settings.table), error))?;
            if let Some(passed) = passed {
                passed.notify_one();
            }
            Ok(u64::try_from(changed).unwrap_or(u64::MAX))
        })
        .await
    }

    fn policy(&self) -> OrderPolicy {
        let order = self.order.as_ref();
        order.map_or(OrderPolicy::default(), |order| order.policy)
    }

    pub(super) fn shared(&self, holder: &Holder) -> (sqlx::PgPool, Arc<super::Settings>, Holder) {
        (
            self.pool.clone(),
            Arc::clone(&self.settings),
            holder.clone(),
        )
    }
}

/// The aggregate that comes next in the database's order of all that there may be.
fn following(aggregate: &Uuid) -> Option<Uuid> {
    aggregate.as_u128().checked_add(1).map(Uuid::from_u128)
}
