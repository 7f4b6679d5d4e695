use eventflow::prelude::*;

mod billing {
    #[derive(Debug, eventflow::Event)]
    pub struct OrderCreated;
}

#[derive(Debug, Event)]
#[event(type = "order.created")]
struct OrderCreated;

#[derive(Debug, EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Billed(billing::OrderCreated),
}

fn main() {
    assert_eq!(OrderEvents::TYPES, ["order.created", "OrderCreated"]);

    let envelope = Envelope::new(&billing::OrderCreated).unwrap();
    let event = <OrderEvents as EventSet>::decode(&envelope).unwrap();
    assert!(matches!(event, OrderEvents::Billed(_)));
}
