use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "OrderCreated")]
struct Unknown {
    #[event(aggregate_id)]
    order_id: Uuid,
}

#[derive(Event)]
#[event(type = "order.paid")]
struct Repeated;

#[derive(Event)]
#[event(type = "OrderShipped")]
#[eventflow(crate = eventflow)]
struct Malformed;

#[derive(Event)]
struct Misplaced;

fn main() {}
