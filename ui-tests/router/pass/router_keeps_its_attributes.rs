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

mod shop {
    use eventflow::prelude::*;

    /// Handles the shop's orders.
    #[router(events = super::OrderEvents, handlers(super::reserve_stock), ignore(super::OrderPaid))]
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Orders;
}

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_sqlite(inbox: eventflow::inbox::SqliteInbox) {
    consume(inbox, shop::Orders::new(()));
}

fn main() {
    assert_eq!(format!("{:?}", shop::Orders), "Orders");
    let _ = on_sqlite;
}
