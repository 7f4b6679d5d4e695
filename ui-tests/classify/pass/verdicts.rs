use std::time::Duration;

use eventflow::{handler::FailureKind, prelude::*};

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("the warehouse does not answer")]
    Silent,
    #[error("the warehouse is busy")]
    #[classify(retry)]
    Busy { clerks: u32 },
    #[error("sold out: {0}")]
    #[classify(dead_letter)]
    SoldOut(String),
    #[error("the warehouse is closed")]
    #[classify(retry_after = "30s")]
    Closed,
    #[error(transparent)]
    #[classify(transparent)]
    Decode(#[from] eventflow::DecodeError),
    #[error("the shelf is broken")]
    Shelf {
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
        shelf: u32,
    },
    #[error("the door is stuck")]
    Door(#[source] Option<std::io::Error>),
    #[error(transparent)]
    Read(#[from] std::io::Error),
}

#[derive(Debug, thiserror::Error, Classify)]
#[error(transparent)]
#[classify(retry_after = "1s")]
struct Wrapped(#[from] std::fmt::Error);

#[derive(Debug, thiserror::Error, Classify)]
#[error("the card was refused")]
#[classify(dead_letter)]
struct Refused;

#[derive(Debug, thiserror::Error, Classify)]
#[error("{0:?}")]
struct Generic<T>(T)
where
    T: std::fmt::Debug;

#[derive(Debug, thiserror::Error, Classify)]
enum Never {}

fn main() {
    let decode = Envelope::new(&Tick).unwrap().decode::<OrderPaid>().unwrap_err();
    let expected = [
        (StockError::Silent.classify(), FailureKind::Retry),
        (StockError::Busy { clerks: 2 }.classify(), FailureKind::Retry),
        (StockError::SoldOut("x".to_owned()).classify(), FailureKind::DeadLetter),
        (StockError::Closed.classify(), FailureKind::RetryAfter(Duration::from_secs(30))),
        (StockError::from(decode).classify(), FailureKind::DeadLetter),
        (StockError::Shelf { cause: "no".into(), shelf: 1 }.classify(), FailureKind::Retry),
        (StockError::Door(None).classify(), FailureKind::Retry),
        (StockError::Read(std::io::ErrorKind::NotFound.into()).classify(), FailureKind::Retry),
        (Wrapped(std::fmt::Error).classify(), FailureKind::RetryAfter(Duration::from_secs(1))),
        (Refused.classify(), FailureKind::DeadLetter),
        (Generic(1).classify(), FailureKind::Retry),
    ];

    for (found, expected) in expected {
        assert_eq!(found, expected);
    }
    let _: fn(&Never) -> FailureKind = Never::classify;
}

#[derive(Event)]
struct Tick;

#[derive(Debug, Serialize, Deserialize, Event)]
struct OrderPaid {
    amount: u64,
}
