use eventflow::{BoxError, handler::Handle, inbox::PgInbox, prelude::*};

#[derive(Event)]
struct OrderCreated;

#[derive(Debug, thiserror::Error, Classify)]
#[error("sold out")]
struct SoldOut;

#[handler]
async fn unit(_event: OrderCreated) -> () {}

#[handler]
async fn failure(_event: OrderCreated) -> Result<(), Failure> {
    Err(SoldOut)?
}

#[handler]
async fn boxed(_event: OrderCreated) -> Result<(), BoxError> {
    Err("sold out")?
}

#[handler]
async fn classified(_event: OrderCreated) -> Result<(), SoldOut> {
    Err(SoldOut)
}

#[handler]
async fn ready_made(_event: OrderCreated) -> Result<(), sqlx::Error> {
    Err(sqlx::Error::RowNotFound)
}

fn runs<H: Handle<PgInbox, ()>>() {}

fn main() {
    runs::<unit>();
    runs::<failure>();
    runs::<boxed>();
    runs::<classified>();
    runs::<ready_made>();
}
