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
async fn reserve_stock(_event: OrderCreated, _pool: sqlx::PgPool, _meta: Metadata) {}

#[handler]
async fn charge_card(_event: OrderPaid, _state: &mut State<u8>) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Orders;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_postgres(inbox: eventflow::inbox::PgInbox) {
    consume(inbox.clone(), Orders::new(()));
    consume(inbox, Orders::builder(()).layer(charge_card, TraceLayer::new()).build());
}

fn main() {
    let _ = on_postgres;
}
