use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

#[handler(timeout = "soon", retry(attempts = 0))]
fn reserve_stock<T>(_event: &OrderCreated, _a: &mut PgConnection, _b: &mut PgConnection) {}

// Nothing is said about the router: the handler is there all the same.
#[router(events = OrderEvents, handlers(reserve_stock))]
struct Orders;

fn main() {
    let _ = Orders::new::<eventflow::inbox::PgInbox, ()>(());
}
