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

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid))]
struct Orders;

#[derive(Event)]
struct Tick;

#[handler]
async fn on_tick(_event: Tick) {}

async fn count(_orders: u32) {}

fn main() {
    let _ = Orders::builder::<eventflow::inbox::PgInbox, ()>(())
        .layer(on_tick, TraceLayer::new())
        .layer(charge_card, TraceLayer::new())
        .layer(count, TraceLayer::new())
        .layer("reserve_stock", TraceLayer::new())
        .build();
}
