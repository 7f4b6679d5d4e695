//! The inbox in SQLite, where it keeps the order per aggregate: transactions of several statements.

use std::sync::Arc;

use sqlx::{Connection as _, Row as _, SqliteConnection};
use uuid::Uuid;

use super::{
    Database, SqliteInbox, Statement,
    row::{lease, recovered},
    settle, statement, turn,
};
use crate::{
    database::{sqlite::values::uuid, task::uncut},
    error::Error,
    fail_point,
    inbox::{
        Arrival, Holder, Insertion, Lease, Order, OrderPolicy, OrderedInbox, ReaderLease, Recovery,
        Settlement, failed, name_too_long, record::recovery,
    },
};

impl Database {
    /// Runs statements that commit together, as the only ones that write.
    async fn together<T>(
        &self,
        what: &str,
        statements: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let failed = |error| failed(format!("{what} in {}", self.table), error);
        let mut connection = self.connection().await?;
        let began = connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = began.map_err(failed)?;
        let done = statements(&mut transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(done)
    }
}

impl OrderedInbox for SqliteInbox {
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
        let (database, holder) = (Arc::clone(&self.database), holder.clone());
        uncut(async move {
            let what = "the right to read could not be had";
            // Commits together: the leases of all streams.
            let taken = database.together(what, async |connection| {
                let Holder { name, lease, .. } = &holder;
                let leases = &database.leases;
                let terms = leases.acquire_all(connection, &names, name, *lease).await?;
                Ok(terms.map(|terms| ReaderLease { names, terms }))
            });
            taken.await
        })
        .await
    }

    async fn extend_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<bool, Error> {
        let (database, holder) = (Arc::clone(&self.database), holder.clone());
        let reader = reader.clone();
        uncut(async move {
            let what = "the right to read could not be extended";
            let kept = database.together(what, async |connection| {
                let (Holder { name, lease, .. }, ReaderLease { names, terms }) = (&holder, &reader);
                let leases = &database.leases;
                let extended = leases.extend_all(connection, names, name, terms, *lease);
                extended.await
            });
            kept.await
        })
        .await
    }

    async fn release_reading(&self, holder: &Holder, reader: &ReaderLease) -> Result<(), Error> {
        let (database, holder) = (Arc::clone(&self.database), holder.clone());
        let reader = reader.clone();
        uncut(async move {
            let what = "the right to read could not be given up";
            let left = database.together(what, async |connection| {
                let (leases, ReaderLease { names, terms }) = (&database.leases, &reader);
                let released = leases.release_all(connection, names, &holder.name, terms);
                released.await
            });
            left.await
        })
        .await
    }

    async fn insert_in_order(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
        arrivals: Vec<Arrival>,
    ) -> Result<Option<Insertion>, Error> {
        let policy = self.policy();
        let (database, holder) = (Arc::clone(&self.database), holder.clone());
        let reader = reader.clone();
        uncut(async move {
            let what = "events could not be stored";
            // Commits together: that the reader is the one, and its rows.
            let stored = database.together(what, async |connection| {
                let (statements, who) = (&database.statements, (&holder, &reader));
                let stored = turn::insert(connection, statements, who, policy, arrivals).await?;
                fail_point::reach(fail_point::Point::AfterInsert)
                    .await
                    .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
                Ok(stored)
            });
            stored.await
        })
        .await
    }

    async fn pass_turns(&self, consumer: &str) -> Result<u64, Error> {
        let policy = self.policy();
        let (database, consumer) = (Arc::clone(&self.database), consumer.to_owned());
        uncut(async move {
            let (mut after, mut passed) = (None, 0);
            loop {
                let what = "waiting events could not be given their turn";
                // Commits together: turns, looked for while nobody else passes them on.
                let passing = database.together(what, async |connection| {
                    let statements = &database.statements;
                    let (aggregates, overdue) =
                        turn::overdue(connection, statements, &consumer, after).await?;
                    let all_parked = policy != OrderPolicy::Park
                        || turn::park_of_aggregates(connection, statements, &consumer, &aggregates)
                            .await?;
                    let passed =
                        turn::pass_of_aggregates(connection, statements, &consumer, &overdue);
                    Ok((aggregates.last().copied(), passed.await?, all_parked))
                });
                let (last, by_now, all_parked) = passing.await?;
                passed += by_now;
                if !all_parked {
                    continue;
                }
                if last.is_none() {
                    return Ok(passed);
                }
                after = last;
            }
        })
        .await
    }

    async fn leave_order(&self, consumer: &str) -> Result<u64, Error> {
        let leave = &self.database.statements.turn.leave;
        let statement = statement(leave).bind(consumer.to_owned());
        self.change("waiting events could not be made due", statement)
            .await
    }
}

impl SqliteInbox {
    pub(super) async fn settle_in_order(
        &self,
        holder: &Holder,
        order: Order,
        settlements: &[Settlement],
    ) -> Result<Vec<Lease>, Error> {
        let sql = self.database.statements.settle_by(Some(order.policy));
        let settle = settle::settle(sql, holder, settlements);
        let settle = settle.map_err(|error| self.unwritten(error))?;
        let (database, consumer) = (Arc::clone(&self.database), holder.consumer.clone());
        let settlements = settlements.to_vec();
        uncut(async move {
            let what = "rows could not be settled";
            // Commits together: the rows' next states, and the turns that they pass on.
            let done = database.together(what, async |connection| {
                let rows = settle.fetch_all(&mut *connection).await?;
                let held = rows.iter().map(lease).collect::<Result<Vec<_>, _>>()?;
                let (statements, policy) = (&database.statements, order.policy);
                let passed = turn::pass(connection, statements, policy, &consumer, &settlements);
                Ok((held, passed.await?))
            });
            let (held, has_passed) = done.await?;
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
        let (database, consumer) = (Arc::clone(&self.database), holder.consumer.clone());
        uncut(async move {
            let what = "a lapsed row could not be recovered";
            // Commits together: the row's next state, and the turn that a dead letter passes on.
            let done = database.together(what, async |connection| {
                let Some(row) = recover.fetch_optional(&mut *connection).await? else {
                    return Ok((Recovery::None, false));
                };
                let (status, record) = recovered(&row)?;
                let dead = [record.id];
                let recovered = recovery(Some((status, record)));
                if !matches!(recovered, Recovery::DeadLetter(_)) {
                    return Ok((recovered, false));
                }
                let (statements, policy) = (&database.statements, order.policy);
                let passed =
                    turn::pass_on(connection, statements, policy, &consumer, &dead, &dead).await?;
                Ok((recovered, passed))
            });
            let (recovered, has_passed) = done.await?;
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
        let (database, consumer) = (Arc::clone(&self.database), consumer.to_owned());
        let passed = self.order.clone().map(|order| order.passed);
        uncut(async move {
            // Commits together: the rows, and who is next in their aggregates.
            let done = database.together(what, async |connection| {
                let rows = change.fetch_all(&mut *connection).await?;
                let mut aggregates: Vec<Uuid> = Vec::new();
                for row in &rows {
                    if row.try_get::<i64, _>(1)? > 0 {
                        aggregates.push(uuid(row, 0)?);
                    }
                }
                let statements = &database.statements;
                turn::pass_of_aggregates(connection, statements, &consumer, &aggregates).await?;
                Ok(rows.len())
            });
            let changed = done.await?;
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
}
