use std::rc::Rc;

use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn reserve_stock(_event: OrderCreated) {
    let count = Rc::new(1);
    std::future::ready(()).await;
    drop(count);
}

fn main() {}
