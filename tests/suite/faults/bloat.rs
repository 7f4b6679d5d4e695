//! Row P7: a long transaction of someone else keeps dead rows from being removed.

use std::time::{Duration, Instant};

use eventflow::inbox::{Due, Holder, Inbox};
use eventflow_tests::shop::{Database, GROUP, OnPostgres, Postgres, Script, Shop};
use sqlx::{Connection, Executor, PgConnection};

/// How long a claim of ten rows takes: the middle of several.
async fn claim(shop: &Shop<Postgres>) -> Duration {
    let inbox = shop.inbox();
    let holder = Holder {
        consumer: GROUP.to_owned(),
        name: "a".to_owned(),
        lease: Duration::from_mins(1),
    };
    let mut times = Vec::new();
    for _ in 0..15 {
        let started = Instant::now();
        let rows = inbox.claim(&holder, Due::Now, 10).await.unwrap();
        times.push(started.elapsed());
        assert_eq!(rows.len(), 10);
        let leases = rows.iter().map(|row| row.lease).collect();
        inbox.release(leases, Duration::ZERO).await.unwrap();
    }
    times.sort();
    times[times.len() / 2]
}

/// A hundred thousand versions of rows that are due lie before the rows themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_long_foreign_transaction() {
    let shop = Shop::<Postgres>::open().await;
    shop.database
        .change(
            "INSERT INTO event_inbox
                (event_id, stream_id, event_type, aggregate_id, occurred_on, payload, consumer,
                 next_retry_at)
            SELECT 'order-' || n, '0-1', 'OrderPlaced', gen_random_uuid(), now(),
                json_build_object('order_id', gen_random_uuid(), 'number', n), 'shop',
                now() - INTERVAL '1 hour'
            FROM generate_series(1, 500) AS n",
        )
        .await;
    let mut foreign = PgConnection::connect(shop.database.url()).await.unwrap();
    foreign
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM event_inbox")
        .await
        .unwrap();

    for _ in 0..200 {
        let run = "UPDATE event_inbox SET next_retry_at = next_retry_at + INTERVAL '1 millisecond'";
        shop.database.change(run).await;
    }
    shop.database.change("VACUUM event_inbox").await;
    let time = claim(&shop).await;

    assert!(time < Duration::from_millis(250), "{time:?}");
    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();
    assert_eq!((report.processed, report.failed), (500, 0), "{report}");
    foreign.execute("COMMIT").await.unwrap();
}
