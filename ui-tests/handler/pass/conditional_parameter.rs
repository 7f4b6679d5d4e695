use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn reserve_stock(_event: OrderCreated, _meta: &Metadata) {}

fn main() {}
