//! Settings out of range are refused when the consumer is built.

use std::time::Duration;

use eventflow::ErrorKind;
use eventflow_tests::shop::{Builder, Database, Script, Shop, Sqlite};

#[tokio::test]
async fn settings_out_of_range_are_refused_by_name() {
    let shop = Shop::<Sqlite>::open().await;
    let cases: [(&str, fn(Builder<Sqlite>) -> Builder<Sqlite>); 13] = [
        ("`name`", |builder| builder.name("")),
        ("`name`", |builder| builder.name("x".repeat(256))),
        ("`batch_size`", |builder| builder.batch_size(0)),
        ("`batch_size`", |builder| builder.batch_size(10_001)),
        ("`workers`", |builder| builder.workers(0)),
        ("`workers`", |builder| builder.workers(1_001)),
        ("`lease`", |builder| {
            builder.lease(Duration::from_millis(99))
        }),
        ("`poll_interval`", |builder| {
            builder.poll_interval(Duration::ZERO)
        }),
        ("`handler_timeout`", |builder| {
            builder.handler_timeout(Duration::ZERO)
        }),
        ("`block`", |builder| builder.block(Duration::ZERO)),
        ("`claim_idle`", |builder| builder.claim_idle(Duration::ZERO)),
        ("`payload_limit`", |builder| {
            builder.payload_limit(257 * 1024 * 1024)
        }),
        ("time", |builder| builder.handler_timeout(Duration::MAX)),
    ];
    for (setting, set) in cases {
        let error = set(shop.consumer(Script::new())).build().unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(setting), "{setting}: {error}");
    }
}

#[tokio::test]
async fn a_table_that_is_missing_ends_the_start() {
    let shop = Shop::<Sqlite>::open().await;
    shop.database.change("DROP TABLE event_inbox").await;

    let error = shop.consumer(Script::new()).build().unwrap().drain().await;

    assert_eq!(error.unwrap_err().kind(), ErrorKind::Schema);
}
