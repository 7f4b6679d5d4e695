use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(retry(attempts = 60, backoff = "1s"))]
async fn a_minute(_event: OrderCreated) {}

#[handler(retry(attempts = 102))]
async fn often(_event: OrderCreated) {}

#[handler(timeout = "5s", retry(attempts = 4, backoff = "350ms"))]
async fn just_too_long(_event: OrderCreated) {}

#[handler(retry(attempts = 4_000_000_000, backoff = "1s"))]
async fn for_ever(_event: OrderCreated) {}

fn main() {}
