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

async fn charge_card(_event: OrderPaid) {}

struct Charge;

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Function;

#[router(events = OrderEvents, handlers(reserve_stock, Charge))]
struct Type;

#[router(events = OrderEvents, handlers(reserve_stock, refund, billing::charge_card))]
struct Missing;

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid), fallback(Charge))]
struct Fallback;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_sqlite(inbox: eventflow::inbox::SqliteInbox) {
    consume(inbox.clone(), Function::new(()));
    consume(inbox.clone(), Type::new(()));
    consume(inbox.clone(), Missing::new(()));
    consume(inbox, Fallback::new(()));
}

fn main() {
    let _ = on_sqlite;
}
