use eventflow::prelude::*;

#[derive(Debug, Classify)]
enum StockError {
    SoldOut,
}

fn main() {
    let _ = StockError::SoldOut;
}
