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
    Tock(Tock),
}

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

#[derive(Event)]
struct Tick;

#[derive(Event)]
struct Tock;

#[handler]
async fn on_tick(_event: Tick) {}

#[router(events = OrderEvents, handlers(reserve_stock, on_tick), ignore(OrderPaid, Tock))]
struct Orders;

fn main() {}
