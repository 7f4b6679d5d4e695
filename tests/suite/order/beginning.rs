//! What an ordered consumer needs, and finds out before it begins.

use std::time::Duration;

use eventflow::ErrorKind;
use eventflow_tests::shop::{Database, Script};

use super::{DEADLINE, consumer, open};

on_every_database!(
    a_consumer_whose_name_leaves_no_room_for_the_streams_is_refused,
    a_consumer_without_a_table_of_leases_is_refused,
);

async fn a_consumer_whose_name_leaves_no_room_for_the_streams_is_refused<D: Database>() {
    let shop = open::<D>().await;

    let builder = consumer(&shop, "a", Script::new()).name("n".repeat(255));

    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("too long together"), "{error}");
}

async fn a_consumer_without_a_table_of_leases_is_refused<D: Database>() {
    let shop = open::<D>().await;
    shop.database.change("DROP TABLE event_inbox_leases").await;
    let sut = || consumer(&shop, "a", Script::new()).build().unwrap();

    let drained = sut().drain().await.unwrap_err();
    let running = sut().run_until(tokio::time::sleep(DEADLINE + Duration::from_secs(1)));
    let ran = tokio::time::timeout(DEADLINE, running).await.unwrap();

    assert!(!drained.is_transient(), "{drained}");
    assert!(!ran.unwrap_err().is_transient());
}
