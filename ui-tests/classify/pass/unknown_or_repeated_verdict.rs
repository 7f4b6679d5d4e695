use eventflow::prelude::*;

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("sold out")]
    #[classify(dead_letter)]
    SoldOut,
    #[error("no such article")]
    #[classify(retry)]
    Unknown,
    #[error("the warehouse is closed")]
    #[classify(retry_after = "24h")]
    Closed,
    #[error("the warehouse burns")]
    #[classify(retry_after = "30s")]
    Fire,
    #[error("lost")]
    #[classify(retry)]
    Lost,
}

fn main() {}
