use eventflow::prelude::*;

#[derive(Event)]
#[event(type = "order.created")]
struct OrderCreated;

#[derive(Event)]
#[event(type = "order.opened")]
struct OrderOpened;

#[derive(Event)]
#[event(type = "order.paid")]
struct OrderPaid;

#[derive(Event)]
#[event(type = "order.settled")]
struct OrderSettled;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Opened(OrderOpened),
    Paid(OrderPaid),
    Settled(OrderSettled),
}

fn main() {}
