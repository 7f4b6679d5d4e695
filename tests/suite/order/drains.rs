//! Drains of consumers that keep the order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow::{
    Consumer, Error, MemoryStream, Source,
    inbox::{Holder, OrderedInbox as _, ReaderLease},
    stream::{Batch, EntryId},
};
use eventflow_tests::shop::{Database, GROUP, Script, Shop, Sqlite, router};

use super::{consumer, open, publish};

on_every_database!(
    a_drain_waits_for_the_lease_of_a_reader_that_is_gone,
    a_drain_says_that_another_process_reads,
);

/// Has another process be the reader for this time.
async fn read_by_another<D: Database>(shop: &Shop<D>, time: Duration) -> ReaderLease {
    let another = Holder {
        consumer: GROUP.to_owned(),
        name: "another".to_owned(),
        lease: time,
    };
    let streams = shop.stream.streams();
    let lease = shop.inbox().acquire_reading(&another, &streams).await;
    lease.unwrap().unwrap()
}

async fn a_drain_waits_for_the_lease_of_a_reader_that_is_gone<D: Database>() {
    let shop = open::<D>().await;
    publish(&shop, [(0, 0)]).await;
    read_by_another(&shop, Duration::from_millis(300)).await;

    let sut = consumer(&shop, "a", Script::new()).build().unwrap();

    assert_eq!(sut.drain().await.unwrap().processed, 1);
}

async fn a_drain_says_that_another_process_reads<D: Database>() {
    let shop = open::<D>().await;
    publish(&shop, [(0, 0)]).await;
    read_by_another(&shop, Duration::from_mins(10)).await;

    let sut = consumer(&shop, "a", Script::new()).lease(Duration::from_millis(200));
    let error = sut.build().unwrap().drain().await.unwrap_err();

    assert!(error.is_transient(), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("another process of the consumer reads"),
        "{said}"
    );
}

/// As Redis 6.2: a claim does not name what was trimmed; a read of what is pending does.
struct Old {
    stream: MemoryStream,
    trimmed: Mutex<Vec<EntryId>>,
    acknowledged: Arc<Mutex<Vec<EntryId>>>,
}

impl Source for Old {
    fn group(&self) -> &str {
        Source::group(&self.stream)
    }

    async fn open(&self) -> Result<(), Error> {
        self.stream.open().await
    }

    async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch, Error> {
        let trimmed = std::mem::take(&mut *self.trimmed.lock().unwrap());
        if trimmed.is_empty() {
            return self.stream.read(count, block).await;
        }
        Ok(Batch {
            trimmed,
            redelivered: true,
            ..Batch::default()
        })
    }

    async fn interrupt(&self) {
        self.stream.interrupt().await;
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        self.acknowledged.lock().unwrap().extend_from_slice(ids);
        self.stream.acknowledge(ids).await
    }

    async fn claim(&self, min_idle: Duration, count: usize) -> Result<Batch, Error> {
        self.stream.claim(min_idle, count).await
    }

    async fn others_have_pending(&self) -> Result<bool, Error> {
        self.stream.others_have_pending().await
    }
}

#[tokio::test]
async fn a_drain_counts_and_acknowledges_what_only_a_read_says_was_trimmed() {
    let shop = open::<Sqlite>().await;
    publish(&shop, [(0, 0)]).await;
    let gone = EntryId {
        stream: Arc::from("shop"),
        id: "1-0".to_owned(),
    };
    let acknowledged = Arc::default();
    let stream = Old {
        stream: shop.stream.clone(),
        trimmed: Mutex::new(vec![gone.clone()]),
        acknowledged: Arc::clone(&acknowledged),
    };
    let sut = Consumer::builder(stream, shop.inbox(), router(Script::<Sqlite>::new()));

    let report = sut.ordered().build().unwrap().drain().await.unwrap();

    assert_eq!((report.trimmed, report.processed), (1, 1), "{report}");
    assert!(acknowledged.lock().unwrap().contains(&gone));
}
