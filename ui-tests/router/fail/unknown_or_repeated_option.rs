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

#[router(event = OrderEvents, handler(reserve_stock))]
struct Unknown;

#[router(events = OrderEvents, handlers(reserve_stock), handlers(), ignore(OrderPaid))]
struct Repeated;

#[router(events(OrderEvents), handlers = reserve_stock, ignore(), fallback(a, b))]
struct Malformed;

fn main() {
    let _ = Unknown::new::<eventflow::inbox::PgInbox, ()>(());
}
