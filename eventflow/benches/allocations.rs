//! How often memory is allocated for an event, and how much: the table says so under each time.
//!
//! Parsing and whole events are those of the other benches, a thousand events each time for a
//! consumer. Only the thread is counted that runs the bench: not SQLite, which has one of its own.

#[path = "consumer.rs"]
#[expect(dead_code, reason = "it is a bench of its own as well")]
mod consumer;
#[path = "parse.rs"]
#[expect(dead_code, reason = "it is a bench of its own as well")]
mod parse;

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
};

use divan::{AllocProfiler, Bencher};
use eventflow::prelude::*;

use self::consumer::{Concurrent, OrderCreated, order};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The payload into its struct.
#[divan::bench(sample_size = 100)]
fn decode(bencher: Bencher<'_, '_>) {
    let envelope = order();
    bencher.bench_local(|| {
        let event = envelope.decode::<OrderCreated>();
        assert!(black_box(event).is_ok());
    });
}

/// A call of the router, decoding included.
#[divan::bench(sample_size = 100)]
fn dispatch(bencher: Bencher<'_, '_>) {
    let mut router = Concurrent::new(());
    let mut context = Context::from_waker(Waker::noop());
    let delivery = Delivery::<SqliteInbox>::detached(order());
    bencher
        .with_inputs(|| delivery.clone())
        .bench_local_values(|delivery| {
            let answer = router.call(delivery).as_mut().poll(&mut context);
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        });
}
