use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

struct Invoice;

#[handler(publishes(OrderPaid, Invoice))]
async fn what_is_no_event(_: OrderCreated, _outbox: &mut Outbox) {}

#[handler(publishes)]
async fn nothing_named(_: OrderCreated, _outbox: &mut Outbox) {}

fn main() {}
