use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(retry(attempts = 1, backoff = "1s"))]
async fn both(_event: OrderCreated) {}

#[handler(retry(attempts = 2, backoff = "50ms"))]
async fn no_attempts(_event: OrderCreated) {}

#[handler(retry(attempts = 3))]
async fn text(_event: OrderCreated) {}

#[handler(retry(attempts = 50))]
async fn many(_event: OrderCreated) {}

#[handler]
async fn nothing(_event: OrderCreated) {}

fn main() {}
