use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn by_value(_: OrderCreated, State(_name): State<String>) {}

#[handler]
async fn by_reference(_: OrderCreated, _envelope: &Envelope) {}

#[handler]
async fn by_mutable_reference(_: OrderCreated, _tx: &mut SqliteConnection) {}

#[handler]
async fn metadata_by_value(_: OrderCreated, _meta: &Metadata) {}

#[handler]
async fn state_by_reference(_: OrderCreated, _state: State<u8>) {}

#[handler]
async fn connection_by_value(_: OrderCreated, _tx: &mut PgConnection) {}

fn main() {}
