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
async fn reserve_stock(_event: OrderCreated) {}

#[handler]
async fn on_paid(_event: OrderPaid) {}

#[router(events = OrderEvents, handlers(reserve_stock), fallback(on_paid))]
struct Orders;

fn main() {}
