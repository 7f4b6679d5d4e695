//! The handlers: one that does nothing, one that tells when it starts, and one that writes one row
//! in the event's transaction.

use std::{hint::black_box, time::Instant};

use eventflow::prelude::*;
use tokio::sync::mpsc::UnboundedSender;

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

/// A handler has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) number: u32,
    pub(crate) time: Instant,
}

/// Who is told of starts.
#[derive(Debug, Clone)]
pub(crate) struct Starts(pub(crate) UnboundedSender<Start>);

#[handler]
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
async fn tell_start(event: OrderCreated, State(starts): State<Starts>) -> Result<(), Failure> {
    let time = Instant::now();
    let number = event.number;
    let told = starts.0.send(Start { number, time });
    told.map_err(|_| Failure::retry("nobody listens"))
}

/// Tells when it starts.
#[router(events = OrderEvents, handlers(tell_start))]
#[derive(Debug)]
pub(crate) struct Timed;

macro_rules! reserving {
    ($database:ident, $Connection:ty) => {
        pub(crate) mod $database {
            use super::*;

            #[handler]
            async fn reserve(event: OrderCreated, tx: &mut $Connection) -> Result<(), Failure> {
                insert(&event, tx).await
            }

            #[handler(replay_safe)]
            async fn reserve_again(
                event: OrderCreated,
                tx: &mut $Connection,
            ) -> Result<(), Failure> {
                insert(&event, tx).await
            }

            async fn insert(event: &OrderCreated, tx: &mut $Connection) -> Result<(), Failure> {
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

            /// The same, and says that nothing is wrong with doing so again.
            #[router(events = OrderEvents, handlers(reserve_again))]
            #[derive(Debug)]
            pub(crate) struct ReplaySafe;
        }
    };
}

reserving!(postgres, PgConnection);
reserving!(sqlite, SqliteConnection);
