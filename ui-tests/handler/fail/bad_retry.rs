use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(retry(attempts = 0, backoff = "2s"))]
async fn both(_event: OrderCreated) {}

#[handler(retry(backoff = "50ms"))]
async fn no_attempts(_event: OrderCreated) {}

#[handler(retry(attempts = "three"))]
async fn text(_event: OrderCreated) {}

#[handler(retry(attempts = 5_000_000_000))]
async fn many(_event: OrderCreated) {}

#[handler(retry)]
async fn nothing(_event: OrderCreated) {}

fn main() {}
