//! What becomes of entries as they arrive, beside those that run.

use deadpool_redis::redis::Value;
use eventflow::{Consumer, Envelope, Failure, MemoryStream, RedisStream, Sink, stream::Source};
use eventflow_tests::{
    eventually,
    redis::RedisServer,
    shop::{Database, GROUP, PriceAsked, Script, Shop, names, order, router},
    site::Site,
    worker::{Worker, WorkerConfig},
};
use futures_util::FutureExt;

use super::DEADLINE;

on_every_database!(
    a_duplicate_is_acknowledged_and_not_run,
    an_ignored_event_has_no_row,
    a_row_of_an_ignored_type_settles,
    a_malformed_entry_is_kept_with_its_bytes,
    a_corrected_event_is_no_duplicate_of_the_broken_one,
    a_malformed_entry_that_comes_again_counts_as_a_duplicate,
    what_an_unanswered_insert_finds_of_a_malformed_entry_says_how_it_counts,
    a_payload_that_cannot_be_decoded_is_a_dead_letter_at_once,
    a_malformed_entry_of_a_long_stream_is_kept_and_blocks_nothing,
    several_streams_are_read_by_one_consumer,
    the_counts_of_what_was_read_add_up,
);

async fn a_duplicate_is_acknowledged_and_not_run<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..5).await;
    shop.orders(0..5).await;
    let consumer = shop.consumer(Script::new()).batch_size(7).build().unwrap();

    let report = consumer.drain().await.unwrap();
    shop.orders(3..6).await;
    let later = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.duplicates), (5, 5), "{report}");
    assert_eq!((later.processed, later.duplicates), (1, 2), "{later}");
    assert_eq!(shop.effects().await, names(0..6));
    assert_eq!(shop.stream.pending(), 0);
}

fn asked(number: u32) -> Envelope {
    Envelope::new(&PriceAsked { number })
        .unwrap()
        .with_event_id(format!("asked-{number}"))
}

async fn an_ignored_event_has_no_row<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.stream.send(&[asked(1), asked(2)]).await.unwrap();

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.read, report.ignored), (2, 2), "{report}");
    assert_eq!(shop.counts().await, eventflow::inbox::Counts::default());
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_row_of_an_ignored_type_settles<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.stream.send(&[asked(1)]).await.unwrap();
    let earlier = tower::service_fn(|_: eventflow::Delivery<D::Inbox>| async {
        Err(Failure::retry_after(std::time::Duration::ZERO, "not yet"))
    });
    earlier_version(&shop, earlier).await;

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.processed, 1, "{report}");
    assert_eq!(shop.event_ids("processed").await, ["asked-1"]);
}

/// Runs each event once with a service that takes every type.
async fn earlier_version<D, S, F>(shop: &Shop<D>, service: S)
where
    D: Database,
    S: tower::Service<eventflow::Delivery<D::Inbox>, Response = (), Error = Failure, Future = F>
        + Send
        + 'static,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let backoff = eventflow::inbox::backoff::Backoff::new(
        std::time::Duration::ZERO,
        std::time::Duration::ZERO,
    );
    let consumer = shop.serving(service);
    let consumer = consumer.backoff(backoff).max_retries(0).build().unwrap();
    let report = consumer.drain_scheduled().await.unwrap();
    assert_eq!(report.failed, 1, "{report}");
    // What a drain puts aside is due after the backoff: at once.
    shop.database
        .change("UPDATE event_inbox SET max_retries = 3")
        .await;
}

async fn a_malformed_entry_is_kept_with_its_bytes<D: Database>() {
    let shop = Shop::<D>::open().await;
    let id = shop
        .stream
        .publish_raw([("data", "no JSON"), ("more", "\u{0}")]);
    shop.orders(0..1).await;

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.malformed, report.processed), (1, 1), "{report}");
    let letters = shop.dead_letters().await;
    let metadata = letters[0].envelope.metadata();
    assert_eq!(metadata.event_id, format!("malformed:shop/{}", id.id));
    assert!(metadata.aggregate_id.is_nil());
    assert!(letters[0].error_message.contains("data"), "{letters:?}");
    let raw = String::from_utf8_lossy(letters[0].raw.as_deref().unwrap()).into_owned();
    assert!(raw.contains("no JSON"), "{raw}");
    assert_eq!(shop.stream.pending(), 0);
}

async fn a_corrected_event_is_no_duplicate_of_the_broken_one<D: Database>() {
    let shop = Shop::<D>::open().await;
    let broken = [
        ("event_id", "order-1"),
        ("event_type", "OrderPlaced"),
        ("aggregate_id", "no uuid"),
        ("occurred_on", "2026-01-01T00:00:00Z"),
        ("payload", "{}"),
    ];
    shop.stream.publish_raw(broken);
    let consumer = shop.consumer(Script::new()).build().unwrap();
    consumer.drain().await.unwrap();

    shop.stream.send(&[order(1)]).await.unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.duplicates), (1, 0), "{report}");
    assert_eq!(shop.effects().await, names([1]));
    assert_eq!(
        shop.dead_letters().await[0].envelope.metadata().event_type,
        "OrderPlaced"
    );
}

async fn a_malformed_entry_that_comes_again_counts_as_a_duplicate<D: Database>() {
    let shop = Shop::<D>::open().await;
    let consumer = shop.consumer(Script::new()).build().unwrap();
    shop.stream.publish_raw([("data", "no JSON")]);
    consumer.drain().await.unwrap();
    // As a process leaves it that dies before it acknowledges.
    let again = shop.stream.publish_raw([("data", "no JSON")]);
    shop.database
        .change(format!(
            "UPDATE event_inbox SET event_id = 'malformed:shop/{}'",
            again.id
        ))
        .await;

    let report = consumer.drain().await.unwrap();

    let counts = (report.read, report.duplicates, report.malformed);
    assert_eq!(counts, (1, 1, 0), "{report}");
    assert_eq!(shop.counts().await.dead_letter, 1);
}

/// Stored by it, or stored before.
async fn what_an_unanswered_insert_finds_of_a_malformed_entry_says_how_it_counts<D: Database>() {
    let site = Site::<D>::start().await;
    let config = WorkerConfig {
        reader: Some("reader".to_owned()),
        ..site.worker()
    };
    let entry = ["XADD", "work", "*", "data", "no event"];
    let _: String = site.redis.run(&entry).await;
    Worker::start_to_fail(&config, "before_ack=abort")
        .exit()
        .await;

    for (malformed, duplicates) in [(0, 1), (1, 0)] {
        let mut worker = Worker::start_to_fail(&config, "after_commit=fail*1");
        eventually(DEADLINE, async || {
            let rows = site.rows("dead_letter").await.len() as u64;
            rows == 1 + malformed && site.pending(&config.group).await == 0
        })
        .await;
        let report = worker.stop().await;

        let counts = ["read", "malformed", "duplicates"].map(|name| report.count(name));
        assert_eq!(counts, [1, malformed, duplicates]);
        let _: String = site.redis.run(&entry).await;
    }
}

async fn a_payload_that_cannot_be_decoded_is_a_dead_letter_at_once<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.stream.publish_raw([
        ("event_id", "order-1"),
        ("event_type", "OrderPlaced"),
        ("aggregate_id", "7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10"),
        ("occurred_on", "2026-01-01T00:00:00Z"),
        (
            "payload",
            r#"{"order_id":"7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10","number":"one"}"#,
        ),
    ]);

    let consumer = shop.consumer(Script::new()).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.failed, report.dead_lettered), (0, 1), "{report}");
    let message = shop.column("order-1", "error_message").await;
    assert!(
        message.starts_with("payload of `OrderPlaced` cannot be read at `number`"),
        "{message}"
    );
}

/// Every entry that was read is one of: stored, kept, duplicate, ignored.
async fn the_counts_of_what_was_read_add_up<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            if call.event.number == 2 {
                return Err(Failure::dead_letter("two"));
            }
            call.write().await
        }
        .boxed()
    });
    shop.orders(0..5).await;
    shop.orders(3..5).await;
    shop.stream.send(&[asked(1), asked(2)]).await.unwrap();
    shop.stream.publish_raw([("data", "no JSON")]);

    let consumer = shop.consumer(script).batch_size(3).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.read, 10, "{report}");
    let parts = [
        report.stored,
        report.duplicates,
        report.malformed,
        report.ignored,
        report.unknown,
    ];
    assert_eq!(parts, [5, 2, 1, 2, 0], "{report}");
    let ended = (report.processed, report.dead_lettered);
    assert_eq!(ended, (4, 1), "{report}");
    assert!(shop.stream.read(1, None).await.unwrap().is_empty());
}

/// The dead letter of an entry is named for its stream, and the column is as long as a name.
async fn a_malformed_entry_of_a_long_stream_is_kept_and_blocks_nothing<D: Database>() {
    let shop = Shop::<D>::open().await;
    let name = "long".repeat(60);
    let stream = MemoryStream::new(name.as_str()).group(GROUP);
    stream.publish_raw([("data", "{}")]);
    stream.send(&[order(1)]).await.unwrap();

    let consumer = D::MODE.set(Consumer::builder(
        stream,
        shop.inbox(),
        router(Script::<D>::new()),
    ));
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.malformed, report.processed), (1, 1), "{report}");
    let letters = shop.dead_letters().await;
    let event_id = &letters[0].envelope.metadata().event_id;
    assert_eq!(event_id.chars().count(), 255, "{event_id}");
    assert!(event_id.starts_with("malformed:"), "{event_id}");
    let entry = letters[0].envelope.metadata().stream_id.clone().unwrap();
    assert!(event_id.ends_with(&format!("long/{entry}")), "{event_id}");
}

async fn several_streams_are_read_by_one_consumer<D: Database>() {
    let redis = RedisServer::start().await;
    let shop = Shop::<D>::open().await;
    for (stream, number) in [("orders", 1), ("returns", 2)] {
        let _: String = redis.run(&["XADD", stream, "7-1", "data", "{"]).await;
        let sink = RedisStream::builder(redis.url()).stream(stream);
        let sink = sink.connect().await.unwrap();
        sink.send(&[order(number)]).await.unwrap();
    }
    let stream = RedisStream::builder(redis.url()).stream("orders");
    let stream = stream.stream("returns").group(GROUP).connect().await;

    let router = router(Script::<D>::new());
    let consumer = D::MODE.set(Consumer::builder(stream.unwrap(), shop.inbox(), router));
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.malformed), (2, 2), "{report}");
    assert_eq!(shop.effects().await, names(1..3));
    let letters = shop.dead_letters().await;
    let mut kept: Vec<_> = letters
        .iter()
        .map(|letter| &*letter.envelope.metadata().event_id)
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, ["malformed:orders/7-1", "malformed:returns/7-1"]);
    for stream in ["orders", "returns"] {
        let reply: Vec<Value> = redis.run(&["XPENDING", stream, GROUP]).await;
        assert_eq!(reply[0], Value::Int(0), "{stream}");
    }
}
