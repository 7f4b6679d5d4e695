use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

fn main() {}
