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
async fn charge_card(_event: OrderPaid, _tx: &mut PgConnection) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Orders;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_postgres(inbox: eventflow::inbox::PgInbox) {
    let orders = Orders::builder(())
        .layer(reserve_stock, TraceLayer::new())
        .layer(charge_card, TraceLayer::new())
        .build();
    consume(inbox, orders);
}

fn main() {
    let _ = on_postgres;
}
