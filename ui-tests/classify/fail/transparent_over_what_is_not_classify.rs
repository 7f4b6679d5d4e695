use eventflow::prelude::*;

#[derive(Debug, thiserror::Error, Classify)]
#[error("the stock cannot be read")]
#[classify(transparent)]
struct StockError(std::fmt::Error);

fn main() {
    let _ = StockError(std::fmt::Error);
}
