use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(retry(attempts = 2, backoff = "1s"))]
async fn a_minute(_event: OrderCreated) {}

#[handler(retry(attempts = 101))]
async fn often(_event: OrderCreated) {}

#[handler(timeout = "5s", retry(attempts = 3, backoff = "500ms"))]
async fn just_too_long(_event: OrderCreated) {}

#[handler(retry(attempts = 1, backoff = "1s"))]
async fn for_ever(_event: OrderCreated) {}

fn main() {}
