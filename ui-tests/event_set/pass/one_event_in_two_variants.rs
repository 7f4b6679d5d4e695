use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderOpened;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Opened(OrderOpened),
}

fn main() {}
