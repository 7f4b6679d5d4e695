use eventflow::prelude::*;

mod billing {
    #[derive(eventflow::Event)]
    #[event(type = "order.opened")]
    pub struct Opened;
}

#[derive(Event)]
#[event(type = "order.created")]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Opened(billing::Opened),
}

fn main() {}
