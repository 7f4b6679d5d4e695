use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[handler(publishes(OrderPaid))]
async fn with_the_transaction_only(_: OrderCreated, _tx: &mut PgConnection) {}

#[handler(timeout = "5s", publishes(OrderPaid))]
async fn with_nothing(_: OrderCreated) {}

fn main() {}
