use eventflow::prelude::*;

#[derive(Event)]
#[event(type = "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567ü")]
struct Long;

#[derive(Event)]
#[event(type = "order.created")]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

fn main() {
    assert_eq!(Long::TYPE.chars().count(), 128);
    assert_eq!(OrderCreated::TYPE, "order.created");
    assert_eq!(OrderPaid::TYPE, "OrderPaid");
}
