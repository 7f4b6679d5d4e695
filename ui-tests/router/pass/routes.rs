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

use eventflow::router::{Route, RouteTable};

#[handler]
async fn on_other(_event: Envelope, _tx: &mut PgConnection) {}

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid))]
struct Closed;

#[router(events = OrderEvents, handlers(reserve_stock), ignore(OrderPaid), fallback(on_other))]
struct Open;

fn main() {
    assert_eq!(Closed::NAME, "Closed");
    assert_eq!(Closed::EVENT_TYPES, Some(["OrderCreated", "OrderPaid"].as_slice()));
    let Route::Handler(route) = Closed::route("OrderCreated") else {
        panic!("not handled");
    };
    assert_eq!((route.index, route.name, route.transactional), (0, "reserve_stock", false));
    assert_eq!(Closed::route("OrderPaid"), Route::Ignored);
    assert_eq!(Closed::route("Tick"), Route::Unknown);

    assert_eq!(Open::EVENT_TYPES, None);
    assert_eq!(Open::route("OrderPaid"), Route::Ignored);
    let Route::Handler(route) = Open::route("Tick") else {
        panic!("no fallback");
    };
    assert_eq!((route.index, route.name, route.transactional), (1, "on_other", true));
}
