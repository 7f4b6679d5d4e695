use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(time_out = "5s", retries(3), timeout = "5s", timeout = "6s")]
async fn outer(_event: OrderCreated) {}

#[handler(retry(attempts = 3, attempts = 4, delay = "50ms"))]
async fn inner(_event: OrderCreated) {}

#[handler("5s", timeout = "5s" retry(attempts = 3))]
async fn syntax(_event: OrderCreated) {}

#[handler(replay_safe = true)]
async fn flag(_event: OrderCreated) {}

fn main() {}
