//! Stores arrivals: their values are bound row by row, as many rows at once as a statement has.
//!
//! One JSON array that the database takes apart would be shorter to write, and take it several times
//! as long.

use sqlx::{
    Arguments as _, Connection as _, SqliteConnection,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteQueryResult},
};

use super::{
    sql::{InsertSql, Statements},
    statement,
    turn::TURN,
};
use crate::{
    database::{columns::micros, sqlite::values::uuid},
    fail_point::{self, Point},
    inbox::{
        Arrival, Holder, Status,
        columns::Entering,
        place::{Placed, Wait},
        record::{Entered, Ids},
    },
};

/// Stores arrivals, of which those to run enter as `run_as`.
pub(super) struct Insert<'a> {
    pub(super) statements: &'a Statements,
    pub(super) holder: &'a Holder,
    pub(super) run_as: Status,
}

impl Insert<'_> {
    /// Stores a batch in a transaction of its own.
    pub(super) async fn alone(
        &self,
        connection: &mut SqliteConnection,
        arrivals: &[Arrival],
    ) -> Result<Entered, sqlx::Error> {
        // Commits together: all parts of the batch. Which rows are new is looked up before that, while
        // nobody else can change their numbers.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let entered = self.within(&mut transaction, arrivals).await?;
        let reached = fail_point::reach(Point::AfterInsert).await;
        reached.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        transaction.commit().await?;
        Ok(entered)
    }

    /// Stores a batch in the transaction that is open.
    pub(super) async fn within(
        &self,
        connection: &mut SqliteConnection,
        arrivals: &[Arrival],
    ) -> Result<Entered, sqlx::Error> {
        let mut entered = Ids::default();
        let mut rest = arrivals;
        while !rest.is_empty() {
            let insert = self.statements.insert(rest.len());
            let (part, later) = rest.split_at(rest.len().min(insert.rows));
            let rows = part.iter().map(|arrival| (arrival, None));
            entered.extend(self.part(connection, insert, rows).await?);
            rest = later;
        }
        Ok(Entered::of(entered, arrivals.len()))
    }

    /// Stores arrivals with their places in the transaction that is open.
    pub(super) async fn in_order(
        &self,
        connection: &mut SqliteConnection,
        placed: &[Placed],
    ) -> Result<Entered, sqlx::Error> {
        let mut entered = Ids::default();
        let mut rest = placed;
        while !rest.is_empty() {
            let insert = self.statements.insert_in_order(rest.len());
            let (part, later) = rest.split_at(rest.len().min(insert.rows));
            let rows = part
                .iter()
                .map(|placed| (&placed.arrival, Some((placed.wait, placed.position))));
            entered.extend(self.part(connection, insert, rows).await?);
            rest = later;
        }
        Ok(Entered::Only(entered))
    }

    /// Stores as many arrivals as a statement takes.
    async fn part(
        &self,
        connection: &mut SqliteConnection,
        insert: &InsertSql,
        part: impl ExactSizeIterator<Item = (&'_ Arrival, Option<(Wait, i64)>)> + Clone,
    ) -> Result<Ids, sqlx::Error> {
        let values = self.values(insert, part.clone());
        let values = values.map_err(sqlx::Error::Encode)?;
        let done = sqlx::query_with(insert.sql.text(), values)
            .execute(&mut *connection)
            .await?;
        // Each row that is answered crosses a thread; that all have entered, a number says.
        if usize::try_from(done.rows_affected()) == Ok(part.len()) {
            Ok(part.map(|(arrival, _)| arrival.id).collect())
        } else {
            made(connection, self.statements, &done).await
        }
    }

    /// A row's values for each arrival, none for the rows that are left, and the holder's.
    #[expect(single_use_lifetimes, reason = "the compiler asks for a name here")]
    fn values<'p>(
        &self,
        insert: &InsertSql,
        part: impl ExactSizeIterator<Item = (&'p Arrival, Option<(Wait, i64)>)>,
    ) -> Result<SqliteArguments, BoxDynError> {
        let mut values = SqliteArguments::default();
        values.reserve(insert.rows * insert.values + 3, 0);
        let spare = insert.rows - part.len();
        for (arrival, place) in part {
            let metadata = arrival.envelope.metadata();
            let Entering {
                status,
                is_parked,
                error_message,
                headers,
                stream_id,
            } = Entering::of(arrival, self.run_as);
            values.add(arrival.id.hyphenated())?;
            values.add(metadata.event_id.as_str())?;
            values.add(stream_id)?;
            values.add(metadata.event_type.as_str())?;
            values.add(metadata.aggregate_id.hyphenated())?;
            values.add(metadata.correlation_id.as_deref())?;
            values.add(metadata.causation_id.as_deref())?;
            values.add(metadata.occurred_on.timestamp_micros())?;
            values.add(arrival.envelope.payload().as_str())?;
            values.add(headers)?;
            values.add(arrival.raw.as_deref())?;
            values.add(status.as_str())?;
            values.add(arrival.max_retries)?;
            let wait = match place {
                None => is_parked.then_some(i64::MAX),
                Some((Wait::Not, _)) => None,
                Some((Wait::Parked, _)) => Some(i64::MAX),
                Some((Wait::Turn, _)) => Some(TURN),
            };
            values.add(wait)?;
            values.add(error_message)?;
            if let Some((_, position)) = place {
                values.add(position)?;
            }
        }
        for _ in 0..spare * insert.values {
            values.add(None::<i64>)?;
        }
        values.add(self.holder.consumer.as_str())?;
        values.add(self.holder.name.as_str())?;
        values.add(micros(self.holder.lease))?;
        Ok(values)
    }
}

/// Looks up the rows that a statement has made, to which it gave consecutive numbers.
async fn made(
    connection: &mut SqliteConnection,
    statements: &Statements,
    done: &SqliteQueryResult,
) -> Result<Ids, sqlx::Error> {
    let rows = statement(&statements.made)
        .bind(done.last_insert_rowid())
        .bind(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| uuid(row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        envelope::{Envelope, Metadata, Payload},
        inbox::{Admission, Inbox as _, Lease, SqliteInbox},
    };

    fn arrival(event: usize) -> Arrival {
        Arrival {
            id: uuid::Uuid::now_v7(),
            envelope: Envelope::from_parts(Metadata::of(&format!("e-{event}")), Payload::empty()),
            raw: None,
            admission: Admission::Run,
            max_retries: 3,
        }
    }

    #[tokio::test]
    async fn a_batch_of_any_size_is_stored_but_for_its_duplicates() {
        let holder = Holder {
            consumer: "billing".to_owned(),
            name: "node".to_owned(),
            lease: Duration::from_mins(1),
        };

        for size in [1, 2, 10, 11, 100, 101, 1_234] {
            let inbox = SqliteInbox::in_memory().await.unwrap();
            inbox.migrate().await.unwrap();
            let before: Vec<_> = (0..size).step_by(3).map(arrival).collect();
            inbox.insert(&holder, before).await.unwrap();
            let batch: Vec<_> = (0..size).map(arrival).collect();
            let ids = |is_duplicate: bool| {
                let numbered = batch.iter().enumerate();
                let those = numbered.filter(move |(event, _)| (event % 3 == 0) == is_duplicate);
                those.map(|(_, arrival)| arrival.id).collect::<Vec<_>>()
            };

            let inserted = inbox.insert(&holder, batch.clone()).await.unwrap();

            let leases: Vec<_> = inserted.rows.iter().map(|row| row.lease).collect();
            let expected: Vec<_> = ids(false).into_iter().map(Lease::first).collect();
            assert_eq!(leases, expected);
            assert_eq!(inserted.duplicates, ids(true));
            let processing = inbox.counts("billing").await.unwrap().processing;
            assert_eq!(usize::try_from(processing), Ok(size));
        }
    }
}
