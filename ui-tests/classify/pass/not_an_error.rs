use eventflow::prelude::*;

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("sold out")]
    SoldOut,
}

fn main() {
    let _ = StockError::SoldOut;
}
