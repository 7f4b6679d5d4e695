//! Publishing in transactions of one's own.

use eventflow::{
    ErrorKind,
    outbox::{OutboxTable, OutboxTransaction, PgOutbox, SqliteOutbox},
    prelude::*,
};
use eventflow_tests::shop::{Database, OnPostgres, ParcelShipped, Postgres, Shop, Sqlite, order};
use sqlx::{Connection as _, PgPool, Sqlite as SqliteDriver, SqlitePool};

use super::outgoing;

/// Publishes in one transaction that commits, and in one that does not.
async fn publish_in<T: OutboxTransaction>(committed: &mut T, number: u32) {
    let mut outbox = Outbox::new(committed);
    outbox.publish(&ParcelShipped { number }).await.unwrap();
    let in_a_day = std::time::Duration::from_hours(24);
    outbox
        .publish_in(in_a_day, &ParcelShipped { number })
        .await
        .unwrap();
    let envelope = order(number).with_causation_id("request-1");
    outbox.publish_envelope(envelope).await.unwrap();
}

async fn has_published<D: Database>(shop: &Shop<D>) {
    let types = outgoing(shop, "event_type").await;
    assert_eq!(types, ["ParcelShipped", "ParcelShipped", "OrderPlaced"]);
    let causes = outgoing(shop, "causation_id").await;
    assert_eq!(causes, ["", "", "request-1"]);
    let delayed = outgoing(shop, "publish_at IS NOT NULL").await;
    assert!(delayed[1] == "1" || delayed[1] == "true", "{delayed:?}");
    let ids = outgoing(shop, "event_id").await;
    assert_eq!(ids[2], "order-1");
}

#[tokio::test]
async fn a_transaction_of_ones_own_publishes_if_it_commits_on_postgres() {
    let shop = Shop::<Postgres>::open().await;
    let pool = PgPool::connect(shop.database.url()).await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    publish_in(&mut transaction, 1).await;
    assert!(outgoing(&shop, "event_id").await.is_empty());
    transaction.commit().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    publish_in(&mut transaction, 2).await;
    transaction.rollback().await.unwrap();

    has_published(&shop).await;
}

#[tokio::test]
async fn a_transaction_of_ones_own_publishes_if_it_commits_on_sqlite() {
    let shop = Shop::<Sqlite>::open().await;
    let pool = shop.inbox().pool().clone();

    let mut transaction = pool.begin().await.unwrap();
    publish_in(&mut transaction, 1).await;
    transaction.commit().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    publish_in(&mut transaction, 2).await;
    transaction.rollback().await.unwrap();

    has_published(&shop).await;
}

#[tokio::test]
async fn a_connection_inside_a_transaction_publishes_too() {
    let shop = Shop::<Postgres>::open().await;
    let mut connection = PgConnection::connect(shop.database.url()).await.unwrap();

    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    publish_in(&mut connection, 1).await;
    sqlx::query("ROLLBACK")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(outgoing(&shop, "event_id").await.is_empty());

    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    publish_in(&mut connection, 1).await;
    sqlx::query("COMMIT")
        .execute(&mut connection)
        .await
        .unwrap();
    has_published(&shop).await;
}

#[tokio::test]
async fn a_table_of_another_name_is_published_to_within_a_transaction() {
    let shop = Shop::<Postgres>::open().await;
    let url = shop.database.url();
    let outbox = PgOutbox::builder(url).schema("shipping").table("letters");
    let outbox = outbox.connect().await.unwrap();
    outbox.migrate().await.unwrap();
    let pool = PgPool::connect(url).await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    let parcel = ParcelShipped { number: 1 };
    outbox
        .within(&mut transaction)
        .publish(&parcel)
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    assert!(outgoing(&shop, "event_id").await.is_empty());
    let there = "SELECT event_type::text FROM shipping.letters";
    assert_eq!(shop.database.texts(there).await, ["ParcelShipped"]);
}

#[tokio::test]
async fn a_sqlite_table_of_another_name_is_published_to_within_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let outbox = SqliteOutbox::builder(&file)
        .table("letters")
        .open()
        .await
        .unwrap();
    outbox.migrate().await.unwrap();
    let pool = SqlitePool::connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();

    let mut transaction = pool.begin().await.unwrap();
    let parcel = ParcelShipped { number: 1 };
    outbox
        .within(&mut transaction)
        .publish(&parcel)
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    let there = sqlx::query_scalar::<SqliteDriver, String>("SELECT event_type FROM letters");
    assert_eq!(there.fetch_all(&pool).await.unwrap(), ["ParcelShipped"]);
}

#[tokio::test]
async fn an_event_that_cannot_be_written_leaves_the_transaction_as_it_is() {
    let shop = Shop::<Postgres>::open().await;
    let pool = PgPool::connect(shop.database.url()).await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    let mut outbox = Outbox::new(&mut transaction);
    let envelope = order(1).with_event_id("x".repeat(256));
    let error = outbox.publish_envelope(envelope).await.unwrap_err();
    outbox.publish(&ParcelShipped { number: 1 }).await.unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(error.kind(), ErrorKind::Encode);
    assert_eq!(outgoing(&shop, "event_type").await, ["ParcelShipped"]);
}

#[tokio::test]
async fn without_the_table_the_error_says_so() {
    let shop = Shop::<Postgres>::open().await;
    shop.database.change("DROP TABLE event_outbox").await;
    let pool = PgPool::connect(shop.database.url()).await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    let parcel = ParcelShipped { number: 1 };
    let error = Outbox::new(&mut transaction)
        .publish(&parcel)
        .await
        .unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Outbox);
    assert!(!error.is_transient());
}
