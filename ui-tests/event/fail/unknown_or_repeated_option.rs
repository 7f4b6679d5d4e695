use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
#[event(name = "OrderCreated")]
struct Unknown {
    #[event(aggregate)]
    order_id: Uuid,
}

#[derive(Event)]
#[event(type = "order.paid")]
#[event(type = "order_paid")]
struct Repeated;

#[derive(Event)]
#[event(type = OrderShipped)]
#[eventflow(path = elsewhere)]
struct Malformed;

#[derive(Event)]
#[event(aggregate_id)]
struct Misplaced;

fn main() {}
