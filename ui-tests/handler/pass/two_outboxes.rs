use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn one_outbox(_: OrderCreated, _outbox: &mut Outbox) {}

#[handler]
async fn both_parts(_: OrderCreated, _outbox: &mut Outbox, _tx: &mut PgConnection) {}

#[handler]
async fn in_any_order(
    _: OrderCreated,
    _meta: &Metadata,
    _tx: &mut SqliteConnection,
    State(_shelf): State<u32>,
    _outbox: &mut Outbox,
) {
}

fn main() {}
