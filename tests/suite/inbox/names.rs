//! Names that a user chooses: in SQL they are identifiers of few letters, elsewhere values.

use std::collections::HashMap;

use deadpool_redis::redis::Value;
use eventflow::{Error, ErrorKind, Inbox as _, Sink as _, prelude::*};
use eventflow_tests::{
    postgres::Database,
    redis::RedisServer,
    shop::{Postgres, Script, Shop, order, router},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::adoption::{FORMS, python_table};

/// What would end a name or a value early, in one language or another.
const HOSTILE: [&str; 9] = [
    "a\"; DROP TABLE event_inbox; --",
    "a'; DROP TABLE event_inbox; --",
    "a\\'; DROP TABLE event_inbox; --",
    "$$; DROP TABLE event_inbox; --",
    "{table} {consumer} {now} {columns}",
    "$1 :name ? %s %I",
    "a\r\nFLUSHALL\r\n",
    "*3\r\n$3\r\nDEL\r\n",
    "ünïcödé 😀 /* ; */",
];

fn refused<T>(answer: Result<T, Error>, name: &str) {
    let error = answer.err().unwrap_or_else(|| panic!("{name:?} was taken"));
    assert_eq!(error.kind(), ErrorKind::Configuration, "{name:?}");
}

#[tokio::test]
async fn hostile_names_of_tables_and_schemas_are_refused() {
    // Nothing listens there: a name is refused before anything is sent.
    let url = "postgres://user:canary@127.0.0.1:1/shop";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    for name in HOSTILE {
        refused(PgInbox::builder(url).table(name).connect().await, name);
        refused(PgInbox::builder(url).schema(name).connect().await, name);
        refused(PgInbox::builder(url).table(name).schema_sql(), name);
        refused(PgInbox::builder(url).schema(name).schema_sql(), name);
        refused(SqliteInbox::builder(&file).table(name).open().await, name);
        refused(SqliteInbox::builder(&file).table(name).schema_sql(), name);
    }
    let builder = PgInbox::builder(url).table(HOSTILE[0]);
    assert!(!format!("{builder:?}").contains("canary"));
}

/// The owner's name enters the SQL of the adoption, as the default of a column.
async fn a_hostile_owner_is_a_value(backslashes_are_letters: &str) {
    for name in HOSTILE {
        let database = Database::create().await;
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        let setting = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = %s',
                current_database(), '{backslashes_are_letters}');
            END $$"
        );
        connection.execute(AssertSqlSafe(setting)).await.unwrap();
        connection
            .execute(AssertSqlSafe(python_table(FORMS[0])))
            .await
            .unwrap();

        let builder = PgInbox::builder(database.url()).consumer(name);
        let inbox = builder.connect().await.unwrap();
        inbox.migrate().await.unwrap();
        inbox.migrate().await.unwrap();

        assert_eq!(inbox.counts(name).await.unwrap().pending, 1, "{name:?}");
        let insert = "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id,
            occurred_on, payload) VALUES ('2', '', 'T', gen_random_uuid(), now(), '{}')";
        connection.execute(insert).await.unwrap();
        assert_eq!(inbox.counts(name).await.unwrap().pending, 2, "{name:?}");
    }
}

#[tokio::test]
async fn a_hostile_owner_of_an_adopted_table_is_a_value() {
    a_hostile_owner_is_a_value("on").await;
}

#[tokio::test]
async fn a_hostile_owner_is_a_value_where_backslashes_are_none() {
    a_hostile_owner_is_a_value("off").await;
}

/// Stream, group, consumer in the group, and owner of the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_of_streams_groups_and_services_are_values() {
    let redis = RedisServer::start().await;
    let shop = Shop::<Postgres>::open().await;
    let _: () = redis.run(&["SET", "canary", "alive"]).await;
    let printable = HOSTILE.into_iter().filter(|name| !name.contains('\n'));
    let mut number = 0;
    for name in printable {
        let builder = RedisStream::builder(redis.url()).stream(name).group(name);
        let stream = builder.consumer(name).connect().await.unwrap();
        stream.send(&[order(number)]).await.unwrap();

        let router = router::<Postgres>(Script::new());
        let consumer = Consumer::builder(stream, shop.inbox(), router).name(name);
        let report = consumer.build().unwrap().drain().await.unwrap();

        assert_eq!(report.processed, 1, "{name:?}: {report}");
        assert_eq!(shop.inbox().counts(name).await.unwrap().processed, 1);
        let row = format!("order-{number}");
        assert_eq!(shop.column(&row, "consumer").await, name);
        let groups: Vec<HashMap<String, Value>> = redis.run(&["XINFO", "GROUPS", name]).await;
        assert_eq!(groups.len(), 1, "{name:?}");
        number += 1;
    }
    assert_eq!(redis.run::<String>(&["GET", "canary"]).await, "alive");
    let keys: u32 = redis.run(&["DBSIZE"]).await;
    assert_eq!(keys, 1 + number);
}

/// They would end a line of a log.
#[tokio::test]
async fn names_with_control_characters_are_refused_on_the_stream() {
    // Nothing listens there: a name is refused before anything is sent.
    let builder = || RedisStream::builder("redis://127.0.0.1:1").stream("orders");
    for name in HOSTILE.into_iter().filter(|name| name.contains('\n')) {
        refused(builder().stream(name).connect().await, name);
        refused(builder().group(name).connect().await, name);
        refused(builder().publish_to(name).connect().await, name);
        refused(builder().consumer(name).connect().await, name);
        refused(builder().consumer_prefix(name).connect().await, name);
    }
}
