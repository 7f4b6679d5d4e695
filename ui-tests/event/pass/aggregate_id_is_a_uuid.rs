use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct OrderCreated {
    #[event(aggregate_id)]
    order_id: Uuid,
    customer_id: Uuid,
}

#[derive(Event)]
struct Tick;

fn main() {
    let event = OrderCreated {
        order_id: Uuid::from_u128(1),
        customer_id: Uuid::from_u128(2),
    };

    assert_eq!(event.aggregate_id(), Some(Uuid::from_u128(1)));
    assert_eq!(Tick.aggregate_id(), None);
}
