use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn by_value(_: OrderCreated, _name: String) {}

#[handler]
async fn by_reference(_: OrderCreated, _name: &String) {}

#[handler]
async fn by_mutable_reference(_: OrderCreated, _name: &mut String) {}

#[handler]
async fn metadata_by_value(_: OrderCreated, _meta: Metadata) {}

#[handler]
async fn state_by_reference(_: OrderCreated, _state: &State<u8>) {}

#[handler]
async fn connection_by_value(_: OrderCreated, _tx: PgConnection) {}

fn main() {}
