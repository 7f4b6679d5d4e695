use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

struct Stock;

impl Stock {
    #[handler]
    async fn reserve(&self, _event: OrderCreated) {}
}

fn main() {}
