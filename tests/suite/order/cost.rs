//! What the order costs does not grow with what waits, nor with what is kept.

use std::time::{Duration, Instant};

use eventflow::{
    Inbox, Source as _,
    inbox::{Arrival, Due, OrderedInbox as _, ReaderLease, Row},
};
use eventflow_tests::shop::{Database, GROUP, Owned, Postgres, Shop, Sqlite};

use super::{another, arrival, in_order, open, processed};

/// How many aggregates have an event in a batch.
const AGGREGATES: u32 = 100;

const CLAIMS: usize = 200;

/// Stores a batch of one event of each aggregate, claims them and settles them, a few times; answers the
/// time that it takes.
async fn time_of_rounds(
    shop: &Shop<Postgres<Owned>>,
    reader: &ReaderLease,
    numbers: std::ops::Range<u32>,
) -> Duration {
    let (inbox, holder) = (in_order(shop), another());
    let began = Instant::now();
    for number in numbers {
        let arrivals = (1..=AGGREGATES).map(|aggregate| arrival(aggregate, number));
        let stored = inbox.insert_in_order(&holder, reader, arrivals.collect());
        assert!(stored.await.unwrap().is_some());
        let claimed = inbox.claim(&holder, Due::Now, AGGREGATES).await.unwrap();
        let settlements: Vec<_> = claimed.iter().map(|row| processed(row.lease)).collect();
        let settled = inbox.settle(&holder, &settlements).await.unwrap();
        assert_eq!(settled.len(), 100);
    }
    began.elapsed()
}

/// A service's connections keep the plans of its first minute, when its table was empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_for_an_empty_table_reads_little_of_a_large_one() {
    let shop = open::<Postgres<Owned>>().await;
    let streams = shop.stream.streams();
    let reader = shop.inbox().acquire_reading(&another(), &streams).await;
    let reader = reader.unwrap().unwrap();
    let alone = time_of_rounds(&shop, &reader, 0..20).await;

    shop.database
        .change(
            "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id, occurred_on,
                payload, consumer, position, status, next_retry_at)
            SELECT 'other' || i, '', 'OrderPlaced', '00000000-0000-0000-0000-00000000ffff',
                now(), '{}', 'shop', 1,
                CASE WHEN i % 2 = 0 THEN 'processed' ELSE 'pending' END,
                CASE WHEN i % 2 = 0 THEN NULL ELSE TIMESTAMPTZ '9999-12-31 00:00:00+00' END
            FROM generate_series(1, 200000) AS i",
        )
        .await;
    let beside = time_of_rounds(&shop, &reader, 20..40).await;

    println!("20 rounds: {alone:?} alone, {beside:?} beside 200,000 rows");
    assert!(
        beside < alone * 5,
        "{alone:?} alone, {beside:?} beside the others"
    );
}

/// The time that claims take of which each finds one row.
async fn time_of_claims<D: Database>(shop: &Shop<D>) -> Duration {
    let holder = another();
    let began = Instant::now();
    for _ in 0..CLAIMS {
        let claimed = shop.inbox().claim(&holder, Due::Now, 1).await.unwrap();
        assert_eq!(claimed.len(), 1);
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_cost_a_claim_nothing() {
    let shop = open::<Postgres<Owned>>().await;
    let due = "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id, occurred_on,
            payload, consumer, position, next_retry_at)
        SELECT kind || i, '', 'OrderPlaced',
            CASE kind WHEN 'due' THEN gen_random_uuid()
                ELSE '00000000-0000-0000-0000-000000000001' END,
            now(), '{}', 'shop', i,
            CASE kind WHEN 'due' THEN NULL ELSE TIMESTAMPTZ '9999-12-31 00:00:00+00' END
        FROM generate_series(1, {rows}) AS i, (VALUES ('{kind}')) AS kinds(kind)";
    let insert = |kind: &str, rows: &str| due.replace("{kind}", kind).replace("{rows}", rows);
    shop.database.change(insert("due", "1000")).await;
    shop.database.change("ANALYZE event_inbox").await;
    time_of_claims(&shop).await;
    let alone = time_of_claims(&shop).await;

    shop.database.change(insert("waiting", "100000")).await;
    shop.database.change("ANALYZE event_inbox").await;
    time_of_claims(&shop).await;
    let beside = time_of_claims(&shop).await;

    println!("{CLAIMS} claims: {alone:?} alone, {beside:?} beside 100,000 rows that wait");
    assert!(
        beside < alone * 5,
        "{alone:?} alone, {beside:?} beside them"
    );
    claim_all(&shop).await;
    assert_eq!(in_order(&shop).pass_turns(GROUP).await.unwrap(), 1);
    turns_cost_little(&shop, alone).await;
}

/// Claims all that is due and leaves it running.
async fn claim_all<D: Database>(shop: &Shop<D>) -> Vec<Row> {
    let (inbox, holder) = (shop.inbox(), another());
    let mut all = Vec::new();
    loop {
        let mut claimed = inbox.claim(&holder, Due::Now, 1_000).await.unwrap();
        if claimed.is_empty() {
            return all;
        }
        all.append(&mut claimed);
    }
}

/// Sees that rows which wait do not cost those anything either who pass the turn on: nothing is due but
/// the first of them.
async fn turns_cost_little<D: Database>(shop: &Shop<D>, time_of_claims: Duration) {
    const TURNS: usize = 50;

    let (inbox, holder) = (in_order(shop), another());
    let began = Instant::now();
    for _ in 0..TURNS {
        let claimed = inbox.claim(&holder, Due::Now, 9).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let settlement = processed(claimed[0].lease);
        inbox.settle(&holder, &[settlement]).await.unwrap();
    }
    let passed = began.elapsed();
    assert!(
        passed < time_of_claims * 10,
        "{time_of_claims:?} for claims, {passed:?} for turns"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_cost_a_claim_nothing_in_sqlite() {
    let shop = open::<Sqlite<Owned>>().await;
    let (inbox, holder) = (in_order(&shop), another());
    let reader = inbox.acquire_reading(&holder, &shop.stream.streams()).await;
    let reader = reader.unwrap().unwrap();
    let store = async |arrivals: Vec<Arrival>| {
        let stored = inbox.insert_in_order(&holder, &reader, arrivals).await;
        assert!(stored.unwrap().is_some());
    };
    let due = 1..=u32::try_from(2 * CLAIMS).unwrap();
    store(due.map(|aggregate| arrival(aggregate, 0)).collect()).await;
    let alone = time_of_claims(&shop).await;

    for batch in 0..10 {
        let numbers = batch * 10_000..(batch + 1) * 10_000;
        store(numbers.map(|number| arrival(0, number)).collect()).await;
    }
    let beside = time_of_claims(&shop).await;

    println!("{CLAIMS} claims: {alone:?} alone, {beside:?} beside 100,000 rows that wait");
    assert!(
        beside < alone * 5,
        "{alone:?} alone, {beside:?} beside them"
    );
    let head = claim_all(&shop).await;
    assert_eq!(head.len(), 1);
    let settlement = processed(head[0].lease);
    inbox.settle(&holder, &[settlement]).await.unwrap();
    turns_cost_little(&shop, alone).await;
}
