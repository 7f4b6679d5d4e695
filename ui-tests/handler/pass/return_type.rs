use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn number(_event: OrderCreated) {}

#[handler]
async fn value(_event: OrderCreated) -> Result<(), Failure> {
    Ok(())
}

#[handler]
async fn hidden(_event: OrderCreated) -> Result<(), eventflow::BoxError> {
    Ok(())
}

fn main() {}
