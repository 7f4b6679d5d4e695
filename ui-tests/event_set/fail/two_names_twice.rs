use eventflow::prelude::*;

#[derive(Event)]
#[event(type = "order.created")]
struct OrderCreated;

#[derive(Event)]
#[event(type = "order.created")]
struct OrderOpened;

#[derive(Event)]
#[event(type = "order.paid")]
struct OrderPaid;

#[derive(Event)]
#[event(type = "order.paid")]
struct OrderSettled;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Opened(OrderOpened),
    Paid(OrderPaid),
    Settled(OrderSettled),
}

fn main() {}
