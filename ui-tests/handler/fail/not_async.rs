use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
fn reserve_stock(_event: OrderCreated) {}

fn main() {}
