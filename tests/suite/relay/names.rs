//! Names that a user chooses for the outbox's table: in SQL they are identifiers of few letters.

use eventflow::{
    Error, ErrorKind,
    outbox::{PgOutbox, SqliteOutbox},
    prelude::*,
};
use eventflow_tests::postgres::Database;

use super::{Broker, drain};

/// What would end a name early.
const HOSTILE: [&str; 6] = [
    "a\"; DROP TABLE event_outbox; --",
    "a'; DROP TABLE event_outbox; --",
    "$$; DROP TABLE event_outbox; --",
    "{table} {leases} {now} {columns}",
    "Outbox",
    "ünïcödé",
];

fn refused<T>(answer: Result<T, Error>, name: &str) {
    let error = answer.err().unwrap_or_else(|| panic!("{name:?} was taken"));
    assert_eq!(error.kind(), ErrorKind::Configuration, "{name:?}");
}

#[tokio::test]
async fn hostile_names_of_outboxes_are_refused() {
    // Nothing listens there: a name is refused before anything is sent.
    let url = "postgres://user:canary@127.0.0.1:1/shop";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    for name in HOSTILE {
        refused(PgOutbox::builder(url).table(name).connect().await, name);
        refused(PgOutbox::builder(url).schema(name).connect().await, name);
        refused(PgOutbox::builder(url).table(name).schema_sql(), name);
        refused(SqliteOutbox::builder(&file).table(name).open().await, name);
        refused(SqliteOutbox::builder(&file).table(name).schema_sql(), name);
    }
}

/// Keywords, and as long as they may be, in a schema of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_of_another_name_and_schema_is_relayed() {
    let database = Database::create().await;
    for (schema, table) in [("order", "select"), ("a", &"t".repeat(48) as &str)] {
        let builder = PgOutbox::builder(database.url())
            .schema(schema)
            .table(table);
        let outbox = builder.connect().await.unwrap();
        outbox.migrate().await.unwrap();
        let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        let event = super::event("1");
        let mut within = outbox.within(&mut transaction);
        within.publish_envelope(event).await.unwrap();
        transaction.commit().await.unwrap();
        let broker = Broker::default();

        drain(&outbox, broker.clone()).await;

        assert_eq!(broker.taken(), ["1"]);
        assert_eq!(outbox.counts().await.unwrap().published, 1);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    use std::time::Duration;

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inbox = runtime.block_on(SqliteInbox::in_memory()).unwrap();
    let relay = || Relay::builder(inbox.outbox(), Broker::default());
    refused(relay().batch_size(0).build(), "batch_size");
    refused(relay().batch_size(10_001).build(), "batch_size");
    refused(relay().lease(Duration::ZERO).build(), "lease");
    refused(relay().poll_interval(Duration::ZERO).build(), "poll");
    refused(relay().keep_published(Duration::MAX).build(), "time");
}
