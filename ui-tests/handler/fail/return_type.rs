use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn number(_event: OrderCreated) -> u32 {
    7
}

#[handler]
async fn value(_event: OrderCreated) -> Result<u32, Failure> {
    Ok(7)
}

#[handler]
async fn hidden(_event: OrderCreated) -> impl Sized {}

fn main() {}
