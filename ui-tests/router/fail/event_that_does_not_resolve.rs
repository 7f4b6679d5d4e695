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
async fn send_receipt(_event: OrderPayed) {}

#[router(events = OrderEvents, handlers(reserve_stock, send_receipt))]
struct Orders;

fn main() {
    let _ = Orders::builder::<eventflow::inbox::PgInbox, ()>(())
        .layer(reserve_stock, TraceLayer::new())
        .build();
}
