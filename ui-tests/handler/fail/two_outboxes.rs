use eventflow::{outbox, prelude::*};

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn spelled_once(_: OrderCreated, _outbox: &mut Outbox, _other: &mut Outbox) {}

#[handler]
async fn spelled_two_ways(_: OrderCreated, _outbox: &mut Outbox, _other: &mut outbox::Outbox) {}

#[handler]
async fn three_parts(
    _: OrderCreated,
    _outbox: &mut Outbox,
    _tx: &mut PgConnection,
    _other: &mut outbox::Outbox,
) {
}

fn main() {}
