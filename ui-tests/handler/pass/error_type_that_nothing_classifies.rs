use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Debug, thiserror::Error, Classify)]
#[error("sold out")]
struct SoldOut;

#[handler]
async fn reserve_stock(_event: OrderCreated) -> Result<(), SoldOut> {
    Err(SoldOut)
}

#[handler]
async fn question_mark(_event: OrderCreated) -> Result<(), Failure> {
    Err(SoldOut)?
}

#[derive(Debug, thiserror::Error)]
#[error("closed")]
struct Closed;

#[handler]
async fn mapped(_event: OrderCreated) -> Result<(), Failure> {
    Err(Closed).map_err(Failure::retry)
}

fn main() {}
