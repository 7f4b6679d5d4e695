//! What is logged: who and what happened, never a payload at level info.

use std::{
    cell::RefCell,
    io::Write,
    sync::{Arc, Mutex, Once},
};

use eventflow::{Failure, Sink, layer::TraceLayer};
use eventflow_tests::shop::{Script, Shop, Sqlite, order};
use futures_util::FutureExt;
use tower::{layer::layer_fn, util::MapErr};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer, filter::dynamic_filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

thread_local! {
    /// What this thread's logs are kept in, and from which level on.
    static KEPT: RefCell<Option<(Level, Lines)>> = const { RefCell::new(None) };
}

/// Keeps this thread's logs until it is dropped.
pub(crate) struct Kept;

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

/// Keeps what this thread logs, until the guard is dropped.
///
/// One subscriber serves all tests and asks at each event: what callsites remember of subscribers
/// that come and go on other threads may be out of date.
pub(crate) fn capture(level: Level) -> (Kept, Lines) {
    static SUBSCRIBER: Once = Once::new();

    SUBSCRIBER.call_once(|| {
        let lines = || KEPT.with_borrow(|kept| kept.clone().map(|(_, lines)| lines));
        let layer = fmt::layer()
            .with_ansi(false)
            .with_writer(move || lines().unwrap_or_default())
            .with_filter(dynamic_filter_fn(|metadata, _| is_kept(metadata)));
        tracing_subscriber::registry().with(layer).init();
    });
    let lines = Lines::default();
    KEPT.set(Some((level, lines.clone())));
    (Kept, lines)
}

fn is_kept(metadata: &Metadata<'_>) -> bool {
    KEPT.with_borrow(|kept| {
        kept.as_ref()
            .is_some_and(|(level, _)| metadata.level() <= level)
    })
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a layer of the user's makes of an error.
#[derive(Debug, thiserror::Error)]
#[error("in the shop")]
struct InTheShop(#[source] Failure);

/// Drains one good order, two that fail, one that cannot be read, and one of no type.
async fn logged(level: Level) -> String {
    let (_here, lines) = capture(level);
    let shop = Shop::<Sqlite>::open().await;
    let script = Script::new().on_order(|mut call| {
        async move {
            match call.event.number {
                424_242 => Err(Failure::retry("not yet")),
                // As the answer of some other service would be read.
                616_161 => Ok(serde_json::from_str(r#""canary-4111""#)?),
                _ => call.write().await,
            }
        }
        .boxed()
    });
    shop.stream
        .send(&[order(242_424), order(424_242), order(616_161)])
        .await
        .unwrap();
    for event_type in ["OrderPlaced", "NoSuchType"] {
        shop.stream.publish_raw([
            ("event_id", event_type),
            ("event_type", event_type),
            ("aggregate_id", "7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10"),
            ("occurred_on", "2026-01-01T00:00:00Z"),
            (
                "payload",
                r#"{"order_id":"7f3b1c7e-6f43-4be5-9a0b-3f3b4f3e2d10","number":"canary-4111"}"#,
            ),
        ]);
    }
    shop.stream
        .publish_raw([("data", r#"{"payload":"canary-4111"}"#)]);

    let in_the_shop = layer_fn(|inner| MapErr::new(inner, InTheShop));
    let consumer = shop
        .consumer(script)
        .layer(in_the_shop)
        .layer(TraceLayer::new());
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(
        (report.processed, report.failed, report.dead_lettered),
        (1, 1, 2)
    );
    lines.text()
}

#[tokio::test]
async fn a_run_is_logged_with_its_event_and_its_outcome() {
    let lines = logged(Level::DEBUG).await;

    for (event_id, outcome) in [("order-242424", "processed"), ("order-424242", "failed")] {
        let line = lines
            .lines()
            .find(|line| line.contains("attempt ended") && line.contains(event_id))
            .unwrap_or_else(|| panic!("no line for {event_id} in {lines}"));
        for field in [
            &format!("event_id=\"{event_id}\""),
            "event_type=\"OrderPlaced\"",
            "handler=\"book_order\"",
            "attempt=1",
            &format!("outcome=\"{outcome}\""),
        ] {
            assert!(line.contains(field), "{field} is not in {line}");
        }
    }
}

#[tokio::test]
async fn a_trace_layer_opens_a_span_per_delivery() {
    let lines = logged(Level::DEBUG).await;

    let inside = lines.lines().find(|line| line.contains("handle{"));
    let inside = inside.unwrap_or_else(|| panic!("no span in {lines}"));
    for field in ["event_id=", "event_type=", "aggregate_id=", "attempt=1"] {
        assert!(inside.contains(field), "{field} is not in {inside}");
    }
}

#[tokio::test]
async fn no_payload_is_logged_at_level_info() {
    let lines = logged(Level::INFO).await;

    assert!(lines.contains("order-424242"), "{lines}");
    assert!(lines.contains("NoSuchType"), "{lines}");
    let failed = lines
        .lines()
        .find(|line| line.contains("run failed"))
        .unwrap();
    assert!(failed.contains("handler=\"book_order\""), "{failed}");
    assert!(lines.contains("`error_message` says where"), "{lines}");
    assert!(!lines.contains("canary"), "{lines}");
}
