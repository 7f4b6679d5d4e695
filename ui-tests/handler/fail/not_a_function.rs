use eventflow::prelude::*;

#[derive(Event)]
#[handler]
struct OrderCreated;

fn main() {}
