use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

#[handler]
async fn charge_card(_event: OrderCreated, _tx: &mut PgConnection) {}

fn main() {}
