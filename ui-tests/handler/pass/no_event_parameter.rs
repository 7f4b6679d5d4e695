use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn reserve_stock(_: OrderCreated) {}

fn main() {}
