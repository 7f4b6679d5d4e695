use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct OrderCreated {
    #[event(aggregate_id)]
    order_id: Uuid,
    customer_id: Uuid,
}

fn main() {}
