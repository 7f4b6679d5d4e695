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
async fn charge_card(_event: OrderPaid) {}

mod billing {
    pub(crate) use super::charge_card;
}

#[handler]
async fn on_other(_event: Envelope) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Function;

#[router(events = OrderEvents, handlers(reserve_stock, billing::charge_card))]
struct Path;

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid), fallback(on_other))]
struct Fallback;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_sqlite(inbox: eventflow::inbox::SqliteInbox) {
    consume(inbox.clone(), Function::new(()));
    consume(inbox.clone(), Path::new(()));
    consume(inbox, Fallback::new(()));
}

fn main() {
    let _ = on_sqlite;
}
