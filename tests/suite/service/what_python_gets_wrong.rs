//! What was measured of `python-eventflow` 1.0.1, and must not be so here: one test each.

use std::time::Duration;

use eventflow::prelude::*;
use eventflow_tests::{
    eventually,
    work::{End, WorkRequested, WorkState, effects, rows_in},
};

use super::{Running, Site};

/// There: 99 to 127 handler runs, 26 to 41 events handled more than once.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_events_and_four_consumers_are_sixty_runs() {
    let site = Site::start().await;
    let events: Vec<Envelope> = (0..60)
        .map(|_| Envelope::new(&WorkRequested::taking(20)).unwrap())
        .collect();
    site.sink().await.send(&events).await.unwrap();

    let mut consumers = Vec::new();
    for number in 0..4 {
        consumers.push(Running::start(&site, "billing", &format!("consumer-{number}")).await);
    }
    site.await_rows("processed", 60).await;
    let mut runs = 0;
    for consumer in consumers {
        runs += consumer.runs.count();
        consumer.stop().await;
    }

    assert_eq!(runs, 60);
    assert_eq!(effects(&site.pool).await, (60, 60));
}

/// There: the consumer ends, and the row stays `pending` with no retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_error_is_retried_then_kept_and_ends_nothing() {
    let site = Site::start().await;
    let sink = site.sink().await;
    let consumer = Running::start(&site, "billing", "rust").await;
    let fails = WorkRequested::ending(End::Fail);

    sink.publish(&fails).await.unwrap();
    site.await_rows("dead_letter", 1).await;
    sink.publish(&WorkRequested::taking(0)).await.unwrap();
    site.await_rows("processed", 1).await;
    assert_eq!(consumer.runs.count(), 4);
    let report = consumer.stop().await;

    assert_eq!((report.failed, report.dead_lettered), (2, 1));
    let (message, retry_count): (String, i32) = sqlx::query_as(
        "SELECT error_message, retry_count FROM event_inbox WHERE status = 'dead_letter'",
    )
    .fetch_one(&site.pool)
    .await
    .unwrap();
    assert_eq!((message.as_str(), retry_count), ("the work failed", 3));
    assert_eq!(effects(&site.pool).await, (1, 1));
}

/// There: acknowledged and lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_entry_is_kept_with_its_bytes() {
    let site = Site::start().await;
    let consumer = Running::start(&site, "billing", "rust").await;

    let id: String = site
        .redis
        .run(&["XADD", "work", "*", "data", "{\"event_id\": 7"])
        .await;
    site.await_rows("dead_letter", 1).await;
    consumer.stop().await;

    let (event_id, raw, message): (String, Vec<u8>, String) =
        sqlx::query_as("SELECT event_id, raw, error_message FROM event_inbox")
            .fetch_one(&site.pool)
            .await
            .unwrap();
    assert_eq!(event_id, format!("malformed:work/{id}"));
    assert_eq!(raw, b"{\"event_id\": 7");
    assert!(message.contains("field `data`"), "{message}");
    assert_eq!(site.pending("billing").await, 0);
}

/// There: handled as if it were `{}`.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_no_object_is_kept() {
    let site = Site::start().await;
    let consumer = Running::start(&site, "billing", "rust").await;

    let _: String = site
        .redis
        .run(&[
            "XADD",
            "work",
            "*",
            "event_id",
            "e-1",
            "event_type",
            "WorkRequested",
            "aggregate_id",
            "7c8f0a6a-7b7c-4c74-9cfb-2e2e2b9b1d33",
            "occurred_on",
            "2026-01-01T00:00:00Z",
            "payload",
            "[1, 2]",
        ])
        .await;
    site.await_rows("dead_letter", 1).await;
    consumer.stop().await;

    let message: String = sqlx::query_scalar("SELECT error_message FROM event_inbox")
        .fetch_one(&site.pool)
        .await
        .unwrap();
    assert_eq!(message, "field `payload`: is an array, not an object");
}

/// There: they stay in the pending list for ever.
#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_consumer_that_died_are_taken_over() {
    let site = Site::start().await;
    site.sink()
        .await
        .publish(&WorkRequested::taking(0))
        .await
        .unwrap();
    let _: () = site
        .redis
        .run(&["XGROUP", "CREATE", "work", "billing", "0"])
        .await;
    let _: deadpool_redis::redis::Value = site
        .redis
        .run(&[
            "XREADGROUP",
            "GROUP",
            "billing",
            "the-dead",
            "COUNT",
            "10",
            "STREAMS",
            "work",
            ">",
        ])
        .await;
    assert_eq!(site.pending("billing").await, 1);

    let consumer = Running::start(&site, "billing", "rust").await;
    site.await_rows("processed", 1).await;
    eventually(Duration::from_secs(10), async || {
        site.pending("billing").await == 0
    })
    .await;
    let report = consumer.stop().await;

    assert_eq!(report.claimed, 1);
}

/// There: it ends the loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_restart_is_survived() {
    let mut site = Site::start().await;
    let consumer = Running::start(&site, "billing", "rust").await;
    let before = Envelope::new(&WorkRequested::taking(0)).unwrap();
    site.sink().await.send(&[before]).await.unwrap();
    site.await_rows("processed", 1).await;

    site.redis.kill();
    site.redis.start_again().await;
    let after = Envelope::new(&WorkRequested::taking(0)).unwrap();
    site.sink().await.send(&[after]).await.unwrap();
    site.await_rows("processed", 2).await;
    consumer.stop().await;

    assert_eq!(effects(&site.pool).await, (2, 2));
}

/// There: they drop each other's events.
#[tokio::test(flavor = "multi_thread")]
async fn two_groups_on_one_table_both_handle_each_event() {
    let site = Site::start().await;
    let billing = Running::start(&site, "billing", "billing").await;
    let shipping = Running::start(&site, "shipping", "shipping").await;

    let sink = site.sink().await;
    for _ in 0..10 {
        sink.publish(&WorkRequested::taking(0)).await.unwrap();
    }
    site.await_rows("processed", 20).await;
    let reports = [billing.stop().await, shipping.stop().await];

    assert_eq!(effects(&site.pool).await, (20, 10));
    assert!(reports.iter().all(|report| report.stored == 10));
}

/// There: dropped.
#[tokio::test(flavor = "multi_thread")]
async fn the_causation_id_reaches_the_table_and_the_handler() {
    let site = Site::start().await;
    let consumer = Running::start(&site, "billing", "rust").await;

    let envelope = Envelope::new(&WorkRequested::taking(0))
        .unwrap()
        .with_causation_id("order-7");
    site.sink().await.send(&[envelope]).await.unwrap();
    site.await_rows("processed", 1).await;
    consumer.stop().await;

    for table in ["event_inbox", "effects"] {
        let causation_id: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT causation_id FROM {table}"
        )))
        .fetch_one(&site.pool)
        .await
        .unwrap();
        assert_eq!(causation_id.as_deref(), Some("order-7"), "{table}");
    }
}

/// There: nothing is ever cleaned up.
#[tokio::test(flavor = "multi_thread")]
async fn finished_rows_are_deleted_when_their_time_is_over() {
    let site = Site::start().await;
    for _ in 0..3 {
        site.sink()
            .await
            .publish(&WorkRequested::taking(0))
            .await
            .unwrap();
    }
    let consumer = site
        .consumer("billing", WorkState::default())
        .await
        .build()
        .unwrap();
    consumer.drain().await.unwrap();
    assert_eq!(rows_in(&site.pool, "processed").await, 3);
    sqlx::query("UPDATE event_inbox SET processed_at = now() - interval '8 days' WHERE id IN (SELECT id FROM event_inbox LIMIT 2)")
        .execute(&site.pool)
        .await
        .unwrap();

    let consumer = Running::start(&site, "billing", "rust").await;
    site.await_rows("processed", 1).await;
    let report = consumer.stop().await;

    assert_eq!(report.purged, 2);
}
