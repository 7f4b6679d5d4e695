use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
struct OrderEvents(OrderCreated);

#[derive(EventSet)]
enum Generic<T> {
    Created(T),
}

fn main() {}
