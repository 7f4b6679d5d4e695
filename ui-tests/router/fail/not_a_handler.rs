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
struct Orders;

#[router(events = OrderEvents, handlers(reserve_stock, Charge))]
struct MoreOrders;

fn main() {}
