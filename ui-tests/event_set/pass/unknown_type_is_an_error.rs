use eventflow::prelude::*;

#[derive(Debug, Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(Debug, EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

fn main() {
    let envelope = Envelope::new(&OrderPaid).unwrap();

    let error = <OrderEvents as EventSet>::decode(&envelope).unwrap_err();

    assert_eq!(error.to_string(), "`OrderPaid` is not in the set of events");
}
