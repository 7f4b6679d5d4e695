use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(timeout = "5s", retry(attempts = 3))]
async fn outer(_event: OrderCreated) {}

#[handler(retry(attempts = 3, backoff = "50ms"))]
async fn inner(_event: OrderCreated) {}

#[handler(timeout = "5s", retry(attempts = 3))]
async fn syntax(_event: OrderCreated) {}

#[handler(replay_safe)]
async fn flag(_event: OrderCreated) {}

fn main() {}
