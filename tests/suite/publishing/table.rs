//! The outbox's table: made once, by whoever comes first, under any name that is one.

use eventflow::{
    ErrorKind,
    outbox::{OutboxTable, PgOutbox, SqliteOutbox},
};
use eventflow_tests::postgres::Database;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_make_the_table_once() {
    let database = Database::create().await;
    let all = (0..8).map(|_| {
        let builder = PgOutbox::builder(database.url()).schema("shipping");
        tokio::spawn(async move { builder.connect().await.unwrap().migrate().await })
    });

    for migrated in all.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }

    let outbox = PgOutbox::builder(database.url()).schema("shipping");
    outbox
        .connect()
        .await
        .unwrap()
        .check_schema()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_schemas_text_makes_the_table_that_a_migration_finds() {
    let database = Database::create().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let outbox = PgOutbox::connect(database.url()).await.unwrap();

    let error = outbox.check_schema().await.unwrap_err();
    pool.execute(AssertSqlSafe(PgOutbox::schema_sql()))
        .await
        .unwrap();
    outbox.check_schema().await.unwrap();
    outbox.migrate().await.unwrap();
    outbox.migrate().await.unwrap();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(
        error.to_string().starts_with("there is no table"),
        "{error}"
    );
}

#[tokio::test]
async fn a_sqlite_table_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let outbox = SqliteOutbox::open(&file).await.unwrap();

    let error = outbox.check_schema().await.unwrap_err();
    outbox.migrate().await.unwrap();
    outbox.migrate().await.unwrap();
    outbox.check_schema().await.unwrap();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(SqliteOutbox::schema_sql().contains("event_outbox"));
}

#[tokio::test]
async fn a_table_of_someone_else_is_refused() {
    let database = Database::create().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    pool.execute("CREATE TABLE event_outbox (id BIGINT, event_id TEXT)")
        .await
        .unwrap();
    let outbox = PgOutbox::connect(database.url()).await.unwrap();

    let error = outbox.migrate().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("`event_type`"), "{error}");
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    for name in ["", "a;b", "a\"b", "Outbox", "1a", &"a".repeat(49)] {
        let table = PgOutbox::builder("postgres://nowhere").table(name);
        let error = table.schema_sql().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{name}");
        let schema = PgOutbox::builder("postgres://nowhere").schema(name);
        let error = schema.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{name}");
        let error = SqliteOutbox::builder("nowhere.db")
            .table(name)
            .open()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{name}");
    }
}
