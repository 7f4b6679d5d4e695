use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Paid(OrderPaid),
}

#[handler]
async fn on_other(_event: Envelope) {}

#[router(events = OrderEvents, ignore(OrderCreated, OrderPaid), fallback(on_other))]
struct Orders;

fn main() {}
