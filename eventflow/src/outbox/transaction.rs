//! Publishing in a transaction of the application's own.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Database, Transaction};

use super::{
    buffer::{Outgoing, When},
    publish::{Outbox, PublishError},
    sealed::Sealed,
};
use crate::{
    database::error::failed,
    envelope::Envelope,
    error::{Error, ErrorKind},
    event::Event,
};

/// A transaction in which an [`Outbox`] writes events down at once.
#[derive(Debug)]
pub struct InTransaction<'t, T: OutboxTransaction> {
    pub(super) transaction: &'t mut T,
    pub(super) writer: <T::Database as OutboxDatabase>::Writer,
}

/// A transaction that an [`Outbox`] can publish in: sqlx's `Transaction` of Postgres and SQLite, and
/// their connections. Sealed.
///
/// A connection outside of any transaction commits each event by itself.
#[diagnostic::on_unimplemented(
    message = "an outbox cannot publish in a `{Self}`",
    label = "not a transaction",
    note = "give it `&mut transaction`, which sqlx's `begin()` on a `PgPool` or a `SqlitePool` answers"
)]
pub trait OutboxTransaction: Sealed + Send {
    /// Where its outbox is.
    type Database: OutboxDatabase;

    /// The connection in the transaction.
    #[doc(hidden)]
    fn connection(&mut self) -> &mut <Self::Database as Database>::Connection;
}

/// A database that has an outbox: Postgres or SQLite. Sealed.
#[diagnostic::on_unimplemented(
    message = "there is no outbox in `{Self}`",
    label = "neither Postgres nor SQLite"
)]
pub trait OutboxDatabase: Sealed + Database {
    /// The statements for a table.
    #[doc(hidden)]
    type Writer: std::fmt::Debug + Send + Sync;

    /// Those for the table of the default name.
    #[doc(hidden)]
    fn default_writer() -> Self::Writer;

    /// Writes events down.
    #[doc(hidden)]
    fn write(
        connection: &mut Self::Connection,
        writer: &Self::Writer,
        outgoing: &[Outgoing],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl<DB: OutboxDatabase> Sealed for Transaction<'_, DB> {}

impl<DB: OutboxDatabase> OutboxTransaction for Transaction<'_, DB> {
    type Database = DB;

    fn connection(&mut self) -> &mut DB::Connection {
        self
    }
}

impl<'t, T: OutboxTransaction> Outbox<InTransaction<'t, T>> {
    /// An outbox over a transaction of the application's own: a web request that writes its own rows.
    ///
    /// For the table `event_outbox`; of another one, ask
    /// [`PgOutbox::within`](super::PgOutbox::within) or
    /// [`SqliteOutbox::within`](super::SqliteOutbox::within).
    ///
    /// # Examples
    /// ```
    /// # #[cfg(all(feature = "macros", feature = "sqlite"))] {
    /// use eventflow::{outbox::OutboxTable, prelude::*};
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// struct OrderCreated {
    ///     #[event(aggregate_id)]
    ///     order_id: Uuid,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = SqliteInbox::in_memory().await?;
    /// inbox.outbox().migrate().await?;
    ///
    /// let mut transaction = inbox.pool().begin().await?;
    /// let event = OrderCreated { order_id: Uuid::now_v7() };
    /// Outbox::new(&mut transaction).publish(&event).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// Nothing is published after the commit:
    /// ```compile_fail
    /// # use eventflow::prelude::*;
    /// # #[derive(Event)]
    /// # struct OrderCreated;
    /// # async fn publish(mut transaction: sqlx::SqliteTransaction<'_>) {
    /// let mut outbox = Outbox::new(&mut transaction);
    /// transaction.commit().await;
    /// outbox.publish(&OrderCreated).await;
    /// # }
    /// ```
    pub fn new(transaction: &'t mut T) -> Self {
        Self {
            to: InTransaction {
                transaction,
                writer: T::Database::default_writer(),
            },
        }
    }

    /// Publishes an event when the transaction commits.
    ///
    /// # Errors
    /// If the event cannot be written as a JSON object or breaks a limit of the wire, or if the database
    /// refuses the statement or cannot be reached: Postgres then takes no further statement of the
    /// transaction.
    ///
    /// # Cancel safety
    /// Of a future that is dropped, it is unknown whether the event is written down; roll back.
    pub async fn publish<E: Event + Sync>(&mut self, event: &E) -> Result<(), Error> {
        self.write(Envelope::new(event), When::Now).await
    }

    /// Publishes an event at a time, or as soon after it as the relay comes to it.
    ///
    /// It is in no order with events that are published at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_at<E: Event + Sync>(
        &mut self,
        time: DateTime<Utc>,
        event: &E,
    ) -> Result<(), Error> {
        self.write(Envelope::new(event), When::At(time)).await
    }

    /// Publishes an event so long after it is written down.
    ///
    /// It is in no order with events that are published at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_in<E: Event + Sync>(
        &mut self,
        delay: Duration,
        event: &E,
    ) -> Result<(), Error> {
        self.write(Envelope::new(event), When::In(delay)).await
    }

    /// Publishes an event as it is in its envelope: with its own ids, and what has caused it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_envelope(&mut self, envelope: Envelope) -> Result<(), Error> {
        self.write(Ok(envelope), When::Now).await
    }

    async fn write(
        &mut self,
        envelope: Result<Envelope, crate::EncodeError>,
        when: When,
    ) -> Result<(), Error> {
        let outgoing = envelope
            .map_err(PublishError::from)
            .and_then(|envelope| Outgoing::new(envelope, when))
            .map_err(|error| Error::new(ErrorKind::Encode, error.to_string()).with_source(error))?;
        let InTransaction {
            transaction,
            writer,
        } = &mut self.to;
        let connection = transaction.connection();
        let written = T::Database::write(connection, writer, &[outgoing]).await;
        written.map_err(|error| {
            let message = "an event could not be written to the outbox; roll the transaction back";
            failed(ErrorKind::Outbox, message, error)
        })
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;

    use sqlx::{PgConnection, Postgres};

    use super::{OutboxDatabase, OutboxTransaction, Outgoing, Sealed};
    use crate::outbox::postgres::Writer;

    impl Sealed for Postgres {}

    impl OutboxDatabase for Postgres {
        type Writer = Arc<Writer>;

        fn default_writer() -> Self::Writer {
            Writer::of_default_table()
        }

        async fn write(
            connection: &mut PgConnection,
            writer: &Self::Writer,
            outgoing: &[Outgoing],
        ) -> Result<(), sqlx::Error> {
            writer.write(connection, outgoing).await
        }
    }

    impl Sealed for PgConnection {}

    impl OutboxTransaction for PgConnection {
        type Database = Postgres;

        fn connection(&mut self) -> &mut Self {
            self
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::sync::Arc;

    use sqlx::{Sqlite, SqliteConnection};

    use super::{OutboxDatabase, OutboxTransaction, Outgoing, Sealed};
    use crate::outbox::sqlite::Writer;

    impl Sealed for Sqlite {}

    impl OutboxDatabase for Sqlite {
        type Writer = Arc<Writer>;

        fn default_writer() -> Self::Writer {
            Writer::of_default_table()
        }

        async fn write(
            connection: &mut SqliteConnection,
            writer: &Self::Writer,
            outgoing: &[Outgoing],
        ) -> Result<(), sqlx::Error> {
            writer.write(connection, outgoing).await
        }
    }

    impl Sealed for SqliteConnection {}

    impl OutboxTransaction for SqliteConnection {
        type Database = Sqlite;

        fn connection(&mut self) -> &mut Self {
            self
        }
    }
}
