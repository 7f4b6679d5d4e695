use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct OrderCreated {
    sku: String,
}

fn main() {}
