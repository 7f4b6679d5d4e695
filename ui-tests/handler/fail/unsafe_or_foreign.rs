use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async unsafe fn dangerous(_event: OrderCreated) {}

#[handler]
async extern "C" fn foreign(_event: OrderCreated) {}

fn main() {}
