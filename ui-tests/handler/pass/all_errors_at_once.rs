use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

#[handler(timeout = "5s", retry(attempts = 1))]
async fn reserve_stock(_event: OrderCreated, _a: &mut PgConnection) {}

#[router(events = OrderEvents, handlers(reserve_stock))]
struct Orders;

fn main() {
    let _ = Orders::new::<eventflow::inbox::PgInbox, ()>(());
}
