use eventflow::prelude::*;

struct OrderCreated;

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

#[handler]
async fn charge_card(_tx: &mut PgConnection, _event: OrderCreated) {}

fn main() {}
