use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreatd),
    Paid(OrderPaid),
}

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

#[handler]
async fn charge_card(_event: OrderPaid) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card))]
struct Orders;

fn main() {
    let _ = Orders::new::<eventflow::inbox::PgInbox, ()>(());
}
