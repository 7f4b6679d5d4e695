//! One reader at a time.

use std::time::Duration;

use eventflow::{Source as _, inbox::OrderedInbox as _};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, Script},
};

use super::{DEADLINE, Overlaps, all_of, at_times_failing, consumer, handled, open, publish};
use eventflow_tests::shop::soon;

on_every_database!(
    entries_of_others_are_stored_first,
    a_stale_reader_that_takes_entries_does_not_break_the_order,
    another_process_reads_when_the_reader_stops,
    another_process_reads_when_the_reader_is_gone,
);

async fn entries_of_others_are_stored_first<D: Database>() {
    let shop = open::<D>().await;
    publish(&shop, (0..6).map(|number| (0, number))).await;
    let dead = shop.stream.clone().consumer("dead");
    assert_eq!(dead.read(2, None).await.unwrap().entries.len(), 2);
    let other = shop.stream.clone().consumer("other");
    assert_eq!(other.read(2, None).await.unwrap().entries.len(), 2);

    let running = consumer(&shop, "a", Script::new()).batch_size(1);
    let running = Running::start(running.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 6).await;
    let report = running.stop().await;

    assert_eq!(report.duplicates, 0, "{report}");
    assert_eq!(shop.stream.pending(), 0);
    assert_eq!(handled(&shop).await, all_of(1, 6));
}

/// What one does whose lease was lost while it was stopped: its read answers, with entries that nobody
/// else is given.
async fn a_stale_reader_that_takes_entries_does_not_break_the_order<D: Database>() {
    let shop = open::<D>().await;
    let overlaps = Overlaps::default();
    let running = consumer(&shop, "a", at_times_failing(&overlaps)).backoff(soon());
    let running = Running::start(running.build().unwrap());
    let stale = shop.stream.clone().consumer("stale");

    let mut taken = 0;
    for pair in 0..20 {
        publish(&shop, [(0, 2 * pair)]).await;
        taken += stale.read(1, None).await.unwrap().entries.len();
        // This one goes to the reader, which waits for entries.
        publish(&shop, [(0, 2 * pair + 1)]).await;
        let so_far = u64::from(pair + 1) * 2;
        eventually(DEADLINE, async || shop.counts().await.processed == so_far).await;
    }
    running.stop().await;

    assert!(taken > 0);
    assert_eq!(handled(&shop).await, all_of(1, 40));
    assert!(overlaps.seen().is_empty());
}

async fn another_process_reads_when_the_reader_stops<D: Database>() {
    let shop = open::<D>().await;
    let first = consumer(&shop, "first", Script::new());
    let first = Running::start(first.build().unwrap());
    publish(&shop, [(0, 0)]).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let second = consumer(&shop, "second", Script::new()).lease(Duration::from_mins(10));
    let second = Running::start(second.build().unwrap());

    let report = first.stop().await;
    publish(&shop, [(0, 1)]).await;
    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;

    assert_eq!(report.read, 1, "{report}");
    assert_eq!(second.stop().await.read, 1);
    assert_eq!(handled(&shop).await, all_of(1, 2));
}

async fn another_process_reads_when_the_reader_is_gone<D: Database>() {
    let shop = open::<D>().await;
    publish(&shop, [(0, 0)]).await;
    // It has the lease, and does not come back to extend it.
    let gone = eventflow::inbox::Holder {
        consumer: eventflow_tests::shop::GROUP.to_owned(),
        name: "gone".to_owned(),
        lease: Duration::from_millis(500),
    };
    let streams = shop.stream.streams();
    let lease = shop.inbox().acquire_reading(&gone, &streams).await.unwrap();
    assert!(lease.is_some());

    let next = consumer(&shop, "next", Script::new()).lease(Duration::from_secs(1));
    let next = Running::start(next.build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;

    next.stop().await;
    let extended = shop.inbox().extend_reading(&gone, &lease.unwrap()).await;
    assert!(!extended.unwrap());
}
