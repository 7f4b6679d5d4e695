//! Readers that cannot read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use eventflow::{
    Consumer, Error, ErrorKind, MemoryStream, Source,
    stream::{Batch, EntryId},
};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Script, router},
};
use futures_util::FutureExt;

use super::{DEADLINE, all_of, consumer, handled, open, publish};

on_every_database!(
    another_process_reads_when_the_stream_does_not_answer_the_reader,
    another_process_reads_when_the_reader_cannot_acknowledge,
    another_process_reads_when_the_readers_workers_are_stuck,
);

/// The lease of a reader that gives it up soon; too long to lapse by itself on a busy machine.
const LEASE: Duration = Duration::from_secs(6);

/// What the server does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Read,
    Acknowledge,
}

/// A handle of a stream that one process cannot use.
struct Deaf {
    stream: MemoryStream,
    refused: Refused,
    tries: Arc<AtomicUsize>,
}

impl Deaf {
    fn answer(&self, asked: Refused) -> Result<(), Error> {
        if asked != self.refused {
            return Ok(());
        }
        self.tries.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Stream, "the server does not answer").transient(true))
    }
}

impl Source for Deaf {
    fn group(&self) -> &str {
        Source::group(&self.stream)
    }

    fn streams(&self) -> Vec<Arc<str>> {
        self.stream.streams()
    }

    async fn open(&self) -> Result<(), Error> {
        self.stream.open().await
    }

    async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch, Error> {
        self.answer(Refused::Read)?;
        self.stream.read(count, block).await
    }

    async fn interrupt(&self) {
        self.stream.interrupt().await;
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        self.answer(Refused::Acknowledge)?;
        self.stream.acknowledge(ids).await
    }

    async fn claim(&self, min_idle: Duration, count: usize) -> Result<Batch, Error> {
        self.answer(Refused::Read)?;
        self.stream.claim(min_idle, count).await
    }

    async fn others_have_pending(&self) -> Result<bool, Error> {
        self.stream.others_have_pending().await
    }
}

/// One process reads in vain when another one begins.
async fn another_process_reads<D: Database>(refused: Refused, duplicates: u64) {
    let shop = open::<D>().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let deaf = Deaf {
        stream: shop.stream.clone().consumer("deaf"),
        refused,
        tries: Arc::clone(&tries),
    };
    let first = Consumer::builder(deaf, shop.inbox(), router(Script::<D>::new()))
        .ordered()
        .lease(LEASE)
        .poll_interval(Duration::from_millis(20));
    let first = Running::start(first.build().unwrap());
    publish(&shop, [(0, 0)]).await;
    eventually(DEADLINE, async || tries.load(Ordering::SeqCst) > 0).await;

    let second = consumer(&shop, "second", Script::new());
    let second = Running::start(second.build().unwrap());
    publish(&shop, [(0, 1)]).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;

    let report = second.stop().await;
    assert_eq!(
        (report.read, report.duplicates),
        (2, duplicates),
        "{report}"
    );
    first.stop().await;
    assert_eq!(handled(&shop).await, all_of(1, 2));
}

async fn another_process_reads_when_the_stream_does_not_answer_the_reader<D: Database>() {
    another_process_reads::<D>(Refused::Read, 0).await;
}

async fn another_process_reads_when_the_reader_cannot_acknowledge<D: Database>() {
    another_process_reads::<D>(Refused::Acknowledge, 1).await;
}

async fn another_process_reads_when_the_readers_workers_are_stuck<D: Database>() {
    let shop = open::<D>().await;
    let (let_go, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let script = Script::<D>::new().on_parcel(move |_| {
        let blocked = Arc::clone(&blocked);
        async move {
            _ = blocked.lock().unwrap().recv();
            Ok(())
        }
        .boxed()
    });
    let first = consumer(&shop, "first", script)
        .workers(1)
        .lease(LEASE)
        .handler_timeout(Duration::from_millis(50));
    let first = Running::start(first.build().unwrap());
    shop.parcels(0..1).await;
    eventually(DEADLINE, async || !first.health().stuck.is_empty()).await;

    let second = consumer(&shop, "second", Script::new());
    let second = Running::start(second.build().unwrap());
    // The first may have been waiting for this one before its workers were stuck.
    publish(&shop, [(0, 0)]).await;
    eventually(DEADLINE, async || handled(&shop).await == all_of(1, 1)).await;
    publish(&shop, [(0, 1)]).await;
    eventually(DEADLINE, async || handled(&shop).await == all_of(1, 2)).await;

    let_go.send(()).unwrap();
    assert!(second.stop().await.read >= 1);
    first.stop().await;
}
