use eventflow::prelude::*;

#[derive(Debug, thiserror::Error, Classify)]
#[classify(retry)]
enum StockError {
    #[error("sold out")]
    #[classify(deadletter)]
    SoldOut,
    #[error("no such article")]
    #[classify(dead_letter, retry)]
    Unknown,
    #[error("the warehouse is closed")]
    #[classify(retry_after = "tomorrow")]
    Closed,
    #[error("the warehouse burns")]
    #[classify(retry_after(30))]
    Fire,
    #[error("lost")]
    #[classify(transparent)]
    Lost,
}

fn main() {}
