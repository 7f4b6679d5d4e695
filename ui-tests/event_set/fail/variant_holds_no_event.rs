use eventflow::prelude::*;

struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

fn main() {}
