//! How long a whole event takes, from a stream in memory to a row that is processed.
//!
//! One drain of 1,000 events, which includes all that the consumer does for them: reading the
//! entries, storing them in an inbox in memory, the acknowledgement, the call of a handler that
//! only takes its event, and the settlement. The larger part is SQLite and its driver; what is
//! left when the handler or the parser gets faster shows here.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up fails")]

use std::hint::black_box;

use divan::{Bencher, counter::ItemsCount};
use eventflow::prelude::*;

fn main() {
    divan::main();
}

const EVENTS: usize = 1000;

#[derive(Serialize, Deserialize, Event)]
pub(crate) struct OrderCreated {
    #[event(aggregate_id)]
    order_id: Uuid,
    sku: String,
    quantity: u32,
    note: Option<String>,
}

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

#[handler]
async fn without_transaction(event: OrderCreated) {
    black_box(event);
}

#[handler]
async fn with_transaction(event: OrderCreated, tx: &mut SqliteConnection) {
    black_box((event, tx));
}

#[handler(replay_safe)]
async fn replay_safe(event: OrderCreated, tx: &mut SqliteConnection) {
    black_box((event, tx));
}

#[router(events = OrderEvents, handlers(without_transaction))]
pub(crate) struct Concurrent;

#[router(events = OrderEvents, handlers(with_transaction))]
struct Transactional;

#[router(events = OrderEvents, handlers(replay_safe))]
struct ReplaySafe;

/// Handlers without the transaction, which are called concurrently.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn concurrent(bencher: Bencher<'_, '_>) {
    drain(bencher, |stream, inbox| {
        Consumer::builder(stream, inbox, Concurrent::new(())).build()
    });
}

/// Handlers in the transaction, each after a savepoint.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn transactional(bencher: Bencher<'_, '_>) {
    drain(bencher, |stream, inbox| {
        Consumer::builder(stream, inbox, Transactional::new(())).build()
    });
}

/// The same, in the transaction that stores the event.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn inline(bencher: Bencher<'_, '_>) {
    drain(bencher, |stream, inbox| {
        Consumer::builder(stream, inbox, Transactional::new(()))
            .inline()
            .build()
    });
}

/// As `inline`, with one savepoint for all events of a unit: none runs a statement of its own, so that what
/// this takes beyond `inline_concurrent` is the unit's bookkeeping.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn inline_replay_safe(bencher: Bencher<'_, '_>) {
    drain(bencher, |stream, inbox| {
        Consumer::builder(stream, inbox, ReplaySafe::new(()))
            .inline()
            .build()
    });
}

/// As `concurrent`, settled by the transaction that stores the event.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn inline_concurrent(bencher: Bencher<'_, '_>) {
    drain(bencher, |stream, inbox| {
        Consumer::builder(stream, inbox, Concurrent::new(()))
            .inline()
            .build()
    });
}

type Built = eventflow::Result<Consumer<MemoryStream, SqliteInbox>>;

fn drain(bencher: Bencher<'_, '_>, build: impl Fn(MemoryStream, SqliteInbox) -> Built) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| {
            let (stream, inbox) = runtime.block_on(filled());
            let _entered = runtime.enter();
            build(stream, inbox).expect("a consumer")
        })
        .bench_local_values(|consumer| {
            let report = runtime.block_on(consumer.drain()).expect("a report");
            assert_eq!(report.processed, EVENTS as u64);
            consumer
        });
}

/// A stream with the events, and an empty inbox.
async fn filled() -> (MemoryStream, SqliteInbox) {
    let inbox = SqliteInbox::in_memory().await.expect("an inbox");
    inbox.migrate().await.expect("a table");
    let stream = MemoryStream::new("orders").group("billing");
    let envelopes: Vec<Envelope> = (0..EVENTS).map(|_| order()).collect();
    stream.send(&envelopes).await.expect("entries");
    (stream, inbox)
}

pub(crate) fn order() -> Envelope {
    let order = OrderCreated {
        order_id: Uuid::now_v7(),
        sku: "tea-earl-grey-loose-leaf-250g".to_owned(),
        quantity: 2,
        note: Some("leave it with the neighbours at number seven".to_owned()),
    };
    Envelope::new(&order).expect("it is an object")
}
