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

#[handler]
async fn on_other(_event: Envelope) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Orders;

#[router(events = OrderEvents, handlers(reserve_stock, charge_card), fallback(on_other))]
struct Mails;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_sqlite(inbox: eventflow::inbox::SqliteInbox) {
    consume(inbox.clone(), Orders::new(()));
    consume(inbox, Mails::new(()));
}

fn main() {
    let _ = on_sqlite;
}
