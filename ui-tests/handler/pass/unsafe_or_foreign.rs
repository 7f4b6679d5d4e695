use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn dangerous(_event: OrderCreated) {}

#[handler]
async fn foreign(_event: OrderCreated) {}

fn main() {}
