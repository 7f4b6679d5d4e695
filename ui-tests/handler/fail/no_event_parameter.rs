use eventflow::prelude::*;

#[handler]
async fn reserve_stock() {}

fn main() {}
