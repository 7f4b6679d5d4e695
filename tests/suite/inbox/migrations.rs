//! Migrations of many processes at once.

use eventflow::{Inbox as _, prelude::*};
use eventflow_tests::postgres::Database;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// Ten processes start, each with a table of the schema `shop`.
async fn migrate(database: &Database, table: impl Fn(u32) -> String) {
    let inboxes = (0..10).map(|process| {
        let builder = PgInbox::builder(database.url());
        let builder = builder.schema("shop").table(table(process));
        tokio::spawn(async move { builder.connect().await.unwrap().migrate().await })
    });
    for migration in inboxes.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
}

async fn one_table_is_made(database: &Database) {
    migrate(database, |_| "order".to_owned()).await;

    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM shop.order_migrations")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(versions, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_migrations_at_once_make_one_table() {
    let database = Database::create().await;
    one_table_is_made(&database).await;
}

/// A transaction there sees what was committed before its first statement, which is the one that
/// waits for the other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_migrations_at_once_where_transactions_are_isolated_by_default() {
    for isolation in ["repeatable read", "serializable"] {
        let database = Database::create().await;
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        let default = format!(
            "DO $$ BEGIN EXECUTE format(
                'ALTER DATABASE %I SET default_transaction_isolation = %L',
                current_database(), '{isolation}');
            END $$"
        );
        connection.execute(AssertSqlSafe(default)).await.unwrap();

        one_table_is_made(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_migrations_at_once_make_ten_tables_in_one_new_schema() {
    let database = Database::create().await;
    migrate(&database, |process| format!("order_{process}")).await;

    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let tables = "SELECT COUNT(*) FROM pg_tables
        WHERE schemaname = 'shop' AND tablename ~ '^order_[0-9]$'";
    let tables: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(tables, 10);
}
