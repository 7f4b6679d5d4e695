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

mod billing {
    use eventflow::prelude::*;

    #[handler]
    pub(super) async fn charge_card(_event: super::OrderPaid) {}
}

#[router(events = OrderEvents, handlers(reserve_stock, billing::charge_card))]
struct Orders;

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid))]
struct Stock;

fn main() {
    let _ = Orders::new::<eventflow::inbox::SqliteInbox, ()>(());
    let _ = Stock::new::<eventflow::inbox::PgInbox, ()>(());
}
