use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(timeout = "5s")]
async fn words(_event: OrderCreated) {}

#[handler(timeout = "50ms")]
async fn number(_event: OrderCreated) {}

#[handler(timeout = "1ms")]
async fn zero(_event: OrderCreated) {}

#[handler(timeout = "2m")]
async fn nothing(_event: OrderCreated) {}

fn main() {}
