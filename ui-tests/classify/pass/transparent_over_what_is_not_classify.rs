use eventflow::prelude::*;

#[derive(Debug, thiserror::Error, Classify)]
#[error("the stock cannot be read")]
#[classify(transparent)]
struct StockError(std::io::Error);

fn main() {
    let _ = StockError(std::io::ErrorKind::Other.into());
}
