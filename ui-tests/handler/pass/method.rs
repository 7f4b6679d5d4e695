use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Clone)]
struct Stock;

#[handler]
async fn reserve(_event: OrderCreated, State(_stock): State<Stock>) {}

fn main() {}
