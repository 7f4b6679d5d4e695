//! What a handler may answer besides `Failure`: boxed errors, classified ones, and `?`.

use std::time::Duration;

use eventflow::{BoxError, Failure, prelude::*};
use eventflow_tests::shop::{Database, Shop, in_an_hour};

on_every_database!(every_kind_of_error_has_its_fate);

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Boxed {}

#[handler]
async fn boxed(_event: Boxed) -> Result<(), BoxError> {
    Err("in a box".into())
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct BoxedFailure {}

#[handler]
async fn boxed_failure(_event: BoxedFailure) -> Result<(), BoxError> {
    Err(Failure::dead_letter("a failure in a box").into())
}

#[derive(Debug, thiserror::Error, Classify)]
enum StockError {
    #[error("the shelf is locked")]
    #[classify(retry)]
    Locked,
    #[error("closed for today")]
    #[classify(retry_after = "30m")]
    Closed,
    #[error("no such article")]
    #[classify(dead_letter)]
    Unknown,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Classified {
    variant: u8,
}

#[handler]
async fn classified(event: Classified) -> Result<(), StockError> {
    Err(match event.variant {
        0 => StockError::Locked,
        1 => StockError::Closed,
        _ => StockError::Unknown,
    })
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Questioned {
    source: String,
}

#[handler]
async fn questioned(event: Questioned) -> Result<(), Failure> {
    match event.source.as_str() {
        "json" => drop(serde_json::from_str::<u32>("no number")?),
        "io" => drop(std::fs::read("/no/such/file")?),
        "sql" => return Err(sqlx::Error::RowNotFound.into()),
        _ => return Err(StockError::Unknown.into()),
    }
    Ok(())
}

#[derive(Debug, EventSet)]
enum Everything {
    Boxed(Boxed),
    BoxedFailure(BoxedFailure),
    Classified(Classified),
    Questioned(Questioned),
}

#[router(events = Everything, handlers(boxed, boxed_failure, classified, questioned))]
struct Answers;

async fn every_kind_of_error_has_its_fate<D: Database>() {
    let shop = Shop::<D>::open().await;
    let mut envelopes = vec![
        Envelope::new(&Boxed {}).unwrap().with_event_id("boxed"),
        Envelope::new(&BoxedFailure {})
            .unwrap()
            .with_event_id("boxed failure"),
    ];
    for (variant, id) in [(0, "locked"), (1, "closed"), (2, "unknown")] {
        let envelope = Envelope::new(&Classified { variant }).unwrap();
        envelopes.push(envelope.with_event_id(id));
    }
    for source in ["json", "io", "sql", "own"] {
        let source = source.to_owned();
        let envelope = Envelope::new(&Questioned {
            source: source.clone(),
        })
        .unwrap();
        envelopes.push(envelope.with_event_id(source));
    }
    shop.stream.send(&envelopes).await.unwrap();

    let consumer = shop.serving(Answers::new(()));
    let consumer = consumer.backoff(in_an_hour()).build().unwrap();
    consumer.drain().await.unwrap();

    for (event_id, status, message) in [
        ("boxed", "failed", "in a box"),
        ("boxed failure", "dead_letter", "a failure in a box"),
        ("locked", "failed", "the shelf is locked"),
        ("closed", "failed", "closed for today"),
        ("unknown", "dead_letter", "no such article"),
        ("json", "dead_letter", "expected ident"),
        ("io", "failed", "No such file"),
        ("sql", "failed", "no rows returned"),
        ("own", "dead_letter", "no such article"),
    ] {
        assert_eq!(shop.column(event_id, "status").await, status, "{event_id}");
        let error = shop.column(event_id, "error_message").await;
        assert!(error.contains(message), "{event_id}: {error}");
    }
    let next = shop.inbox().next_due("shop").await.unwrap().unwrap();
    assert!(next <= Duration::from_mins(30), "{next:?}");
}
