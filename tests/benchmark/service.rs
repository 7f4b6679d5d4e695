//! The handlers: one that does nothing, and one that writes one row in the event's transaction.

use std::hint::black_box;

use eventflow::prelude::*;

use crate::event::{OrderCreated, OrderEvents};

/// The table of the handlers' writes. It takes any number of rows per event, so that one that is
/// handled twice is seen.
pub(crate) const CREATE_RESERVATIONS: &str =
    "CREATE TABLE reservations (order_id TEXT NOT NULL, quantity INTEGER NOT NULL)";

/// Rows in all, and of different events.
pub(crate) const COUNT_RESERVATIONS: &str =
    "SELECT count(*), count(DISTINCT order_id) FROM reservations";

/// One handler's write, in both databases.
pub(crate) const RESERVE: &str = "INSERT INTO reservations (order_id, quantity) VALUES ($1, $2)";

#[handler]
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
async fn do_nothing(event: OrderCreated) {
    black_box(event);
}

/// Does nothing.
#[router(events = OrderEvents, handlers(do_nothing))]
#[derive(Debug)]
pub(crate) struct Idle;

macro_rules! reserving {
    ($database:ident, $Connection:ty) => {
        pub(crate) mod $database {
            use super::*;

            #[handler]
            async fn reserve(event: OrderCreated, tx: &mut $Connection) -> Result<(), Failure> {
                sqlx::query(RESERVE)
                    .bind(event.order_id.to_string())
                    .bind(i64::from(event.quantity))
                    .execute(tx)
                    .await?;
                Ok(())
            }

            /// Writes a row per event.
            #[router(events = OrderEvents, handlers(reserve))]
            #[derive(Debug)]
            pub(crate) struct Reserving;
        }
    };
}

reserving!(postgres, PgConnection);
reserving!(sqlite, SqliteConnection);
