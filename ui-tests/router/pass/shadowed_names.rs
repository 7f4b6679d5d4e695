//! Generated code names everything in full.
#![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

use ::std::result::Result::{Err as Failed, Ok as Fine};

use ::eventflow::{Classify, Event, EventSet, handler, router};

struct Result;
struct Option;
struct String;
struct Some;
struct None;
struct Ok;
struct Err;
struct Box;
struct Send;
struct Sync;
struct Sized;
struct Arc;
struct Duration;
const delivery: u8 = 1;
const transaction: u8 = 1;
mod core {}
mod std {}
mod eventflow {}

#[derive(Event)]
struct OrderCreated;

#[derive(serde::Serialize, serde::Deserialize, Event)]
struct OrderPaid {
    #[event(aggregate_id)]
    order_id: uuid::Uuid,
}

#[derive(Event)]
struct OrderShipped;

#[derive(Event)]
struct OrderPacked;

#[derive(Event)]
struct OrderHeld;

#[derive(Event)]
struct OrderLeft;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Paid(OrderPaid),
    Shipped(OrderShipped),
    Packed(OrderPacked),
    Held(OrderHeld),
    Left(OrderLeft),
}

#[derive(Debug, thiserror::Error, Classify)]
#[error("sold out")]
#[classify(retry_after = "1h")]
struct SoldOut;

#[handler(timeout = "5s", retry(attempts = 3, backoff = "50ms"))]
async fn reserve_stock(
    _: OrderCreated,
    _: ::eventflow::State<u8>,
    _: &::eventflow::Metadata,
    _: &mut sqlx::PgConnection,
) -> ::core::result::Result<(), SoldOut> {
    if delivery == transaction { Failed(SoldOut) } else { Fine(()) }
}

#[handler]
async fn __delivery(_: OrderShipped, _: ::eventflow::State<u8>) {}

#[handler]
async fn __event(_: OrderPacked, _: &mut sqlx::PgConnection) {}

#[handler]
async fn __argument_0(_: OrderHeld, _: &::eventflow::Metadata) {}

#[handler]
async fn __transaction(_: OrderLeft, _: &::eventflow::Metadata) {}

#[handler]
async fn on_other(_: ::eventflow::Envelope) {}

#[router(
    events = OrderEvents,
    handlers(reserve_stock, __delivery, __event, __argument_0, __transaction),
    ignore(OrderPaid),
    fallback(on_other)
)]
struct Orders;

fn main() {
    let _ = Orders::new::<::eventflow::inbox::PgInbox, u8>(1);
}
