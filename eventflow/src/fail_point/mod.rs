//! Named points inside the engine at which a test makes the process abort, panic, stall or fail.
//!
//! Only with the feature `fail-points`, which no release build has; without it a point is nothing.
//! What happens where is said by the environment variable `EVENTFLOW_FAIL`, whose format is
//! `plan`'s part.

#[cfg(feature = "fail-points")]
mod plan;

use crate::error::Error;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// Every point, in the order in which an event passes them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(dead_code, reason = "a point of a database is there only with its feature")]
        pub(crate) enum Point {
            $($(#[$doc])* $point,)*
        }

        #[cfg(feature = "fail-points")]
        impl Point {
            const ALL: &[Self] = &[$(Self::$point,)*];

            /// The name in `EVENTFLOW_FAIL` and in logs.
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A batch that is not empty was read; nothing of it is stored.
    AfterRead = "after_read",
    /// The batch's INSERT has run; its transaction is open.
    AfterInsert = "after_insert",
    /// The batch's rows are committed; nothing of it is acknowledged.
    AfterCommit = "after_commit",
    /// Entries are about to be acknowledged.
    BeforeAck = "before_ack",
    /// Entries are acknowledged.
    AfterAck = "after_ack",
    /// Waiting rows are claimed; no worker has them yet.
    AfterClaim = "after_claim",
    /// Leases of rows that wait or run are about to be extended. This happens over and over.
    BeforeExtend = "before_extend",
    /// A handler has answered; its writes are in the open transaction, above their savepoint.
    InHandler = "in_handler",
    /// The handlers' writes are in the open transaction, their rows' next states are not.
    BeforeSettle = "before_settle",
    /// The rows' next states are in the open transaction as well.
    BeforeCommit = "before_commit",
    /// A unit of work is committed; the process has not noted it.
    AfterSettleCommit = "after_settle_commit",
    /// A batch of the outbox is about to go to the broker.
    BeforeSend = "before_send",
    /// A batch of the outbox is at the broker; nothing of it is marked.
    AfterSend = "after_send",
    /// What the broker has answered is marked in the outbox.
    AfterMark = "after_mark",
    /// A batch of finished rows is deleted; there may be more of them.
    InRetention = "in_retention",
    /// The indexes of a table that is adopted are built; its old unique index is still there.
    InAdoption = "in_adoption",
    /// The table is made, or adopted; the migration's transaction is open.
    InMigration = "in_migration",
}

/// Passes a point. The error is one that passes by itself.
#[cfg(feature = "fail-points")]
pub(crate) async fn reach(point: Point) -> Result<(), Error> {
    plan::of_this_process().reach(point).await
}

#[cfg(not(feature = "fail-points"))]
pub(crate) fn reach(_: Point) -> std::future::Ready<Result<(), Error>> {
    std::future::ready(Ok(()))
}

/// Inserts a batch by a statement that commits by itself; where it is to stop before its commit, in a
/// transaction of its own.
#[cfg(feature = "postgres")]
pub(crate) async fn insert<T>(
    connection: &mut sqlx::PgConnection,
    insert: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    #[cfg(feature = "fail-points")]
    if plan::of_this_process().stops_at(Point::AfterInsert) {
        let mut transaction = sqlx::Connection::begin(connection).await?;
        let inserted = insert(&mut transaction).await?;
        let reached = reach(Point::AfterInsert).await;
        reached.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        transaction.commit().await?;
        return Ok(inserted);
    }
    insert(connection).await
}
