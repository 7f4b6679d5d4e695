use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[handler(publishes(OrderPaid))]
async fn with_both(_: OrderCreated, _tx: &mut PgConnection, _outbox: &mut Outbox) {}

#[handler(timeout = "5s", publishes(OrderPaid))]
async fn with_the_outbox(_: OrderCreated, _outbox: &mut Outbox) {}

fn main() {}
