//! The contract of stream `orders`: what its producers and its consumers share.
//!
//! In a real system this is a small crate that both depend on.

use eventflow::prelude::*;

/// A customer has checked out.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct OrderCreated {
    /// The order.
    #[event(aggregate_id)]
    pub order_id: Uuid,
    /// What was ordered.
    pub sku: String,
    /// How many of it.
    pub quantity: u32,
}

/// An order has been paid.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct OrderPaid {
    /// The order.
    #[event(aggregate_id)]
    pub order_id: Uuid,
    /// How much, in cents.
    pub amount: u64,
}

/// A customer has changed their mind.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub struct OrderCancelled {
    /// The order.
    #[event(aggregate_id)]
    pub order_id: Uuid,
}

/// Everything that stream `orders` carries.
#[derive(Debug, EventSet)]
pub enum OrderEvents {
    /// See [`OrderCreated`].
    Created(OrderCreated),
    /// See [`OrderPaid`].
    Paid(OrderPaid),
    /// See [`OrderCancelled`].
    Cancelled(OrderCancelled),
}
