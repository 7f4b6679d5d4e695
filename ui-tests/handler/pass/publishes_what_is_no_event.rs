use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(Event)]
struct Invoice;

#[handler(publishes(OrderPaid, Invoice))]
async fn two_events(_: OrderCreated, _outbox: &mut Outbox) {}

#[handler]
async fn nothing_named(_: OrderCreated, _outbox: &mut Outbox) {}

fn main() {}
