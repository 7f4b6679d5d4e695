//! The macros through a dependency of another name: each takes `crate = path`.

use flow::{Classify, Event, EventSet, Metadata, handler, inbox::Inbox, router, router::Router};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An order was made.
#[derive(Debug, Serialize, Deserialize, Event)]
#[eventflow(crate = flow)]
pub struct OrderCreated {
    /// The order.
    #[event(aggregate_id)]
    pub order_id: Uuid,
}

/// An order was paid.
#[derive(Debug, Event)]
#[eventflow(crate = ::flow)]
pub struct OrderPaid;

/// Everything about orders.
#[derive(Debug, EventSet)]
#[eventflow(crate = flow)]
pub enum OrderEvents {
    /// It was made.
    Created(OrderCreated),
    /// It was paid.
    Paid(OrderPaid),
}

/// There is none left.
#[derive(Debug, thiserror::Error, Classify)]
#[error("sold out")]
#[eventflow(crate = flow)]
pub struct SoldOut;

/// Reserves what was ordered.
///
/// # Errors
/// If it is sold out.
#[handler(crate = flow, timeout = "5s")]
pub async fn reserve_stock(event: OrderCreated, meta: &Metadata) -> Result<(), SoldOut> {
    if meta.aggregate_id == event.order_id {
        Ok(())
    } else {
        Err(SoldOut)
    }
}

/// Charges the card.
#[handler]
#[eventflow(crate = flow)]
pub async fn charge_card(_event: OrderPaid) {}

/// Handles orders.
#[router(crate = flow, events = OrderEvents, handlers(reserve_stock, charge_card))]
#[derive(Debug)]
pub struct Orders;

/// Ignores payments.
#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid))]
#[eventflow(crate = flow)]
#[derive(Debug)]
pub struct Stock;

/// Makes a router over any inbox.
pub fn orders<I: Inbox>() -> Router<Orders, I, ()> {
    Orders::new(())
}
