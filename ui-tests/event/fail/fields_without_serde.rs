use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated {
    sku: String,
}

fn main() {}
