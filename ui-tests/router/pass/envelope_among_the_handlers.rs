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
async fn on_any(_event: Envelope) {}

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid), fallback(on_any))]
struct Orders;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_sqlite(inbox: eventflow::inbox::SqliteInbox) {
    consume(inbox, Orders::new(()));
}

fn main() {
    let _ = on_sqlite;
}
