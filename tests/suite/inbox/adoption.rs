//! Tables: made, adopted, refused.

use eventflow::{ErrorKind, Inbox as _, inbox::Due, prelude::*};
use eventflow_tests::{
    postgres::Database,
    shop::{Postgres, Script, router},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::{CONSUMER, Fixture, holder, insert, on_each_database};

on_each_database! {
    a_table_of_a_newer_version_is_used_as_it_is,
    a_missing_column_is_named,
    a_missing_unique_index_is_named,
}

/// The two forms of the Python package's table: its README's, and SQLAlchemy's without defaults.
pub(crate) const FORMS: [(&str, &str); 2] = [
    (
        "UUID PRIMARY KEY DEFAULT gen_random_uuid()",
        "; CREATE UNIQUE INDEX uq_event_inbox_event_id ON event_inbox(event_id)",
    ),
    (
        "UUID PRIMARY KEY",
        "; ALTER TABLE event_inbox ADD CONSTRAINT other_name UNIQUE (event_id)",
    ),
];

pub(crate) fn python_table((id, unique): (&str, &str)) -> String {
    format!(
        "CREATE TABLE event_inbox (
            id {id}, event_id VARCHAR(255) NOT NULL UNIQUE, stream_id VARCHAR(255) NOT NULL,
            event_type VARCHAR(128) NOT NULL, aggregate_id UUID NOT NULL,
            correlation_id VARCHAR(255), occurred_on TIMESTAMPTZ NOT NULL, payload JSONB NOT NULL,
            status VARCHAR(50) NOT NULL, retry_count INTEGER NOT NULL,
            max_retries INTEGER NOT NULL, received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            processed_at TIMESTAMPTZ, next_retry_at TIMESTAMPTZ, error_message TEXT,
            last_error_at TIMESTAMPTZ){unique};
         INSERT INTO event_inbox (id, event_id, stream_id, event_type, aggregate_id, occurred_on,
            payload, status, retry_count, max_retries)
         VALUES (gen_random_uuid(), '1', '', 'T', gen_random_uuid(), now(), '{{}}', 'pending', 0, 3)"
    )
}

#[tokio::test]
async fn both_forms_of_pythons_table_are_adopted_with_their_rows() {
    for form in FORMS {
        let database = Database::create().await;
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        connection
            .execute(AssertSqlSafe(python_table(form)))
            .await
            .unwrap();

        let unnamed = PgInbox::connect(database.url()).await.unwrap();
        let error = unnamed.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains("consumer("), "{error}");

        let builder = PgInbox::builder(database.url()).consumer("o'brien");
        let inbox = builder.connect().await.unwrap();
        inbox.migrate().await.unwrap();
        inbox.migrate().await.unwrap();

        assert_eq!(inbox.counts("o'brien").await.unwrap().pending, 1);
        let copy = "INSERT INTO event_inbox (event_id, stream_id, event_type, aggregate_id,
            occurred_on, payload, consumer)
            SELECT event_id, '', 'T', aggregate_id, now(), '{}', $1 FROM event_inbox";
        sqlx::query(copy)
            .bind("other")
            .execute(&mut connection)
            .await
            .unwrap();
        sqlx::query(copy)
            .bind("other")
            .execute(&mut connection)
            .await
            .unwrap_err();
    }
}

#[tokio::test]
async fn schema_sql_is_what_migrate_makes() {
    let shape = async |database: &Database| -> Vec<String> {
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        sqlx::query_scalar(
            "SELECT concat_ws(' ', column_name, data_type, column_default, is_nullable)
             FROM information_schema.columns WHERE table_name = 'event_inbox'
             UNION ALL SELECT indexdef FROM pg_indexes WHERE tablename = 'event_inbox' ORDER BY 1",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap()
    };
    let (migrated, by_hand) = (Database::create().await, Database::create().await);
    let inbox = PgInbox::connect(migrated.url()).await.unwrap();
    assert_eq!(
        inbox.check_schema().await.unwrap_err().kind(),
        ErrorKind::Schema
    );
    inbox.migrate().await.unwrap();
    let mut connection = PgConnection::connect(by_hand.url()).await.unwrap();
    connection
        .execute(AssertSqlSafe(PgInbox::schema_sql()))
        .await
        .unwrap();

    assert_eq!(shape(&migrated).await, shape(&by_hand).await);
    let inbox = PgInbox::connect(by_hand.url()).await.unwrap();
    inbox.check_schema().await.unwrap();
    inbox.migrate().await.unwrap();
}

/// An insert cannot name it in `ON CONFLICT`.
#[tokio::test]
async fn a_deferrable_constraint_is_not_the_unique_index() {
    let database = Database::create().await;
    let inbox = PgInbox::connect(database.url()).await.unwrap();
    inbox.migrate().await.unwrap();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let defer = "ALTER TABLE event_inbox DROP CONSTRAINT uq_event_inbox_event,
        ADD UNIQUE (consumer, event_id) DEFERRABLE";
    connection.execute(defer).await.unwrap();

    let error = inbox.check_schema().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
}

/// Python's table, adopted for one service.
async fn adopted(owner: &str) -> (Database, PgInbox) {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let table = AssertSqlSafe(python_table(FORMS[0]));
    connection.execute(table).await.unwrap();
    let inbox = PgInbox::builder(database.url()).consumer(owner);
    let inbox = inbox.connect().await.unwrap();
    inbox.migrate().await.unwrap();
    (database, inbox)
}

#[tokio::test]
async fn a_table_keeps_its_owner() {
    let owner = r"o'bri\en";
    let (database, inbox) = adopted(owner).await;
    let unnamed = PgInbox::connect(database.url()).await.unwrap();
    let other = PgInbox::builder(database.url()).consumer("shipping");
    let other = other.connect().await.unwrap();

    inbox.migrate().await.unwrap();
    unnamed.migrate().await.unwrap();
    let error = other.migrate().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    let message = error.to_string();
    assert!(message.contains(owner), "{message}");
    assert!(message.contains("shipping"), "{message}");
    assert_eq!(inbox.counts(owner).await.unwrap().pending, 1);
}

/// The rows that are adopted, and Python's later ones, would wait for a consumer that never comes.
#[tokio::test]
async fn a_consumer_that_is_not_the_owner_is_refused() {
    let (database, inbox) = adopted("billing").await;
    let stream = || MemoryStream::new("orders").group("billing");
    let service = || router::<Postgres>(Script::new());

    let consumer = Consumer::builder(stream(), inbox.clone(), service());
    drop(consumer.build().unwrap());
    let consumer = Consumer::builder(stream(), inbox, service()).name("shipping");
    let error = consumer.build().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Configuration);
    let message = error.to_string();
    assert!(message.contains("`billing`"), "{message}");
    assert!(message.contains("`shipping`"), "{message}");
    let unnamed = PgInbox::connect(database.url()).await.unwrap();
    let consumer = Consumer::builder(stream(), unnamed, service()).name("shipping");
    drop(consumer.build().unwrap());
}

#[tokio::test]
async fn an_owner_needs_a_name() {
    // Nothing listens there: a name is refused before anything is sent.
    let builder = PgInbox::builder("postgres://127.0.0.1:1/shop").consumer("");

    let error = builder.connect().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("consumer"), "{error}");
}

#[tokio::test]
async fn a_sqlite_table_of_another_maker_is_refused() {
    let inbox = SqliteInbox::in_memory().await.unwrap();
    let table = "CREATE TABLE event_inbox (id TEXT, event_id TEXT)";
    inbox.pool().execute(table).await.unwrap();

    let error = inbox.migrate().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("event_inbox"), "{error}");
}

#[tokio::test]
async fn a_sqlite_table_without_row_ids_is_refused() {
    let inbox = SqliteInbox::in_memory().await.unwrap();
    let table = SqliteInbox::schema_sql().replacen("STRICT", "STRICT, WITHOUT ROWID", 1);
    inbox.pool().execute(AssertSqlSafe(table)).await.unwrap();

    let error = inbox.check_schema().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("WITHOUT ROWID"), "{error}");
}

/// While a new version is rolled out, processes of the old one start on its table.
async fn a_table_of_a_newer_version_is_used_as_it_is(fixture: impl Fixture) {
    fixture
        .change("ALTER TABLE event_inbox ADD COLUMN newer TEXT NOT NULL DEFAULT 'x'")
        .await;
    fixture
        .change("INSERT INTO event_inbox_migrations (version) VALUES (7)")
        .await;
    let inbox = fixture.inbox();

    inbox.migrate().await.unwrap();
    inbox.check_schema().await.unwrap();

    let versions = "SELECT CAST(version AS TEXT) FROM event_inbox_migrations ORDER BY version";
    assert_eq!(fixture.texts(versions).await, ["2", "7"]);
    let leases = insert(inbox, &holder("a"), &["1"]).await;
    inbox
        .release(leases, std::time::Duration::ZERO)
        .await
        .unwrap();
    let claimed = inbox.claim(&holder("a"), Due::Now, 9).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processing, 1);
}

async fn a_missing_column_is_named(fixture: impl Fixture) {
    fixture
        .change("ALTER TABLE event_inbox DROP COLUMN causation_id")
        .await;

    for checked in [
        fixture.inbox().check_schema().await,
        fixture.inbox().migrate().await,
    ] {
        let error = checked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        let message = error.to_string();
        assert!(message.contains("`causation_id`"), "{message}");
        assert!(message.contains("event_inbox"), "{message}");
    }
}

/// Without it no event could be stored, and each would be read again for ever.
async fn a_missing_unique_index_is_named(fixture: impl Fixture) {
    // What looks like it, but does not keep an event from being stored twice.
    fixture
        .change(
            "ALTER TABLE event_inbox RENAME TO old;
             CREATE TABLE event_inbox AS SELECT * FROM old WHERE FALSE;
             CREATE INDEX plain ON event_inbox (consumer, event_id);
             CREATE UNIQUE INDEX partial ON event_inbox (consumer, event_id) WHERE payload IS NULL;
             CREATE UNIQUE INDEX longer ON event_inbox (consumer, event_id, stream_id);
             CREATE UNIQUE INDEX other ON event_inbox (event_type, event_id)",
        )
        .await;
    let inbox = fixture.inbox();

    for checked in [inbox.check_schema().await, inbox.migrate().await] {
        let error = checked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        let message = error.to_string();
        let (_, advice) = message.split_once('`').unwrap();
        let (sql, _) = advice.split_once('`').unwrap();
        assert!(sql.starts_with("CREATE UNIQUE INDEX"), "{message}");
    }
    let message = inbox.check_schema().await.unwrap_err().to_string();
    fixture.change(message.split('`').nth(1).unwrap()).await;
    inbox.check_schema().await.unwrap();
    for rows in [1, 0] {
        let once = "INSERT INTO event_inbox (consumer, event_id) VALUES ('a', '1')
            ON CONFLICT (consumer, event_id) DO NOTHING";
        assert_eq!(fixture.change(once).await, rows);
    }
}
