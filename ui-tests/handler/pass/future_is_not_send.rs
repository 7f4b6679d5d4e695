use std::sync::Arc;

use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn reserve_stock(_event: OrderCreated) {
    let count = Arc::new(1);
    std::future::ready(()).await;
    drop(count);
}

fn main() {}
