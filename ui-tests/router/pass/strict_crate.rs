//! Generated code adds no warning to a crate that allows none.
#![deny(
    warnings,
    missing_docs,
    missing_copy_implementations,
    single_use_lifetimes,
    unnameable_types,
    unreachable_pub,
    unused_qualifications
)]

use eventflow::{
    Classify, Event, EventSet, Failure, Metadata, State, handler, handler::Handler, inbox,
    router, router::Route,
};

/// An order was made.
#[derive(Debug, serde::Serialize, serde::Deserialize, Event)]
struct OrderCreated {
    #[event(aggregate_id)]
    order_id: uuid::Uuid,
}

/// An order was paid.
#[derive(Debug, Clone, Copy, Event)]
pub struct OrderPaid;

/// Everything about orders.
#[derive(Debug, EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Paid(OrderPaid),
}

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("sold out: {0}")]
    #[classify(dead_letter)]
    SoldOut(uuid::Uuid),
}

#[handler(timeout = "5s", retry(attempts = 3, backoff = "50ms"))]
async fn reserve_stock(
    event: OrderCreated,
    State(_): State<u8>,
    meta: &Metadata,
) -> Result<(), StockError> {
    if meta.attempt > 7 {
        return Err(StockError::SoldOut(event.order_id));
    }
    Ok(())
}

/// Charges the card.
#[handler]
#[deprecated = "its time is over"]
pub async fn charge_card(_event: OrderPaid) -> Result<(), Failure> {
    Ok(())
}

/// Orders.
#[expect(deprecated)]
mod orders {
    use super::{OrderEvents, charge_card, reserve_stock, router};

    #[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
    pub(super) struct Orders;
}

fn main() {
    let _ = orders::Orders::new::<inbox::PgInbox, u8>(1);
    let _: Option<Route> = None;
    let _ = <reserve_stock as Handler>::NAME;
}
