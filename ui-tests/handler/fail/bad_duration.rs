use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler(timeout = "5 seconds")]
async fn words(_event: OrderCreated) {}

#[handler(timeout = 5)]
async fn number(_event: OrderCreated) {}

#[handler(timeout = "0s")]
async fn zero(_event: OrderCreated) {}

#[handler(timeout)]
async fn nothing(_event: OrderCreated) {}

fn main() {}
