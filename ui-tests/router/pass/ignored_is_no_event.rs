use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Paid(OrderPaid),
    Tick(Tick),
}

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

#[derive(Event)]
struct Tick;

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid, Tick))]
struct Orders;

fn main() {}
