use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    None,
    Two(OrderCreated, OrderCreated),
    Named { event: OrderCreated },
}

#[derive(EventSet)]
enum Empty {}

fn main() {}
