//! The connections of an inbox in Postgres: how many, and how they are opened.

use std::{error::Error as _, time::Duration};

use eventflow::{
    ErrorKind, Inbox,
    inbox::{Demand, Unit as _},
    prelude::*,
};
use eventflow_tests::{postgres::Database, process::free_port, shop};
use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};

use super::{CONSUMER, Status, holder, insert, settlement};

async fn pool(database: &Database, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .connect(database.url())
        .await
        .unwrap()
}

fn consumer(inbox: PgInbox, workers: usize) -> eventflow::Result<Consumer<MemoryStream, PgInbox>> {
    let router = shop::router::<shop::Postgres>(shop::Script::new());
    Consumer::builder(MemoryStream::new("shop").group("shop"), inbox, router)
        .workers(workers)
        .build()
}

#[tokio::test]
async fn a_pool_that_is_too_small_is_refused_when_the_consumer_is_built() {
    let database = Database::create().await;
    let users = PgInbox::with_pool(pool(&database, 5).await);
    let limited = PgInbox::builder(database.url()).max_connections(5);

    for builder in [users, limited] {
        let inbox = builder.connect().await.unwrap();

        let error = consumer(inbox.clone(), 4).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration);
        let message = error.to_string();
        assert!(
            message.contains("needs 6") && message.contains("open 5"),
            "{message}"
        );
        drop(consumer(inbox, 3).unwrap());
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_reason() {
    let port = free_port();
    let url = format!("postgres://shop:canary@localhost:{port}/shop");

    let error = PgInbox::connect(&url).await.unwrap_err();

    assert!(error.is_transient());
    let told = format!("{error}: {}", error.source().unwrap());
    let server = format!("the database cannot be reached at localhost:{port}: ");
    assert!(told.starts_with(&server), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
    assert!(!told.contains("canary"), "{told}");
}

#[tokio::test]
async fn a_pool_of_the_users_is_the_one_that_is_used() {
    let database = Database::create().await;
    let pool = pool(&database, 3).await;
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
    let demand = Demand {
        consumer: CONSUMER,
        connections: 3,
        longest_handler: Duration::from_secs(30),
    };

    let sized = inbox.sized_for(demand).unwrap();
    pool.close().await;

    let error = sized.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inbox);
}

#[tokio::test]
async fn a_consumer_gets_connections_for_its_workers() {
    let database = Database::create().await;
    let inbox = PgInbox::connect(database.url()).await.unwrap();
    let demand = Demand {
        consumer: CONSUMER,
        connections: 12,
        longest_handler: Duration::from_secs(30),
    };

    let sized = inbox.sized_for(demand).unwrap();

    // More than an inbox has that no consumer has asked.
    let mut units = Vec::new();
    for _ in 0..12 {
        units.push(sized.begin().await.unwrap());
    }
}

/// What a session of a handler is told: its time limits and whether it writes outside of a unit.
async fn settings_of(inbox: &PgInbox) -> [String; 3] {
    let mut unit = inbox.begin().await.unwrap();
    let mut settings = Vec::new();
    for setting in [
        "SHOW statement_timeout",
        "SHOW lock_timeout",
        "SHOW default_transaction_read_only",
    ] {
        let value: String = sqlx::query_scalar(setting)
            .fetch_one(unit.connection())
            .await
            .unwrap();
        settings.push(value);
    }
    unit.commit().await.unwrap();
    settings.try_into().unwrap()
}

#[tokio::test]
async fn sessions_have_limits_unless_the_user_says_no() {
    let database = Database::create().await;
    let url = database.url();
    let on = PgInbox::builder(url)
        .statement_timeout(Duration::from_secs(7))
        .lock_timeout(Duration::from_millis(1500));
    let off = PgInbox::builder(url).session_options(false);
    let users = PgInbox::with_pool(pool(&database, 3).await);

    let on = on.connect().await.unwrap();
    assert_eq!(settings_of(&on).await, ["7s", "1500ms", "on"]);
    for builder in [off, users] {
        let inbox = builder.connect().await.unwrap();
        assert_eq!(settings_of(&inbox).await, ["0", "0", "off"]);
    }
}

/// Without the guard of the session, the unit itself still keeps a handler's commit from storing
/// anything.
#[tokio::test]
async fn units_hold_without_session_options() {
    let database = Database::create().await;
    let builder = PgInbox::builder(database.url()).session_options(false);
    let inbox = builder.connect().await.unwrap();
    inbox.migrate().await.unwrap();
    let beside = pool(&database, 1).await;
    beside
        .execute("CREATE TABLE effect (name TEXT NOT NULL)")
        .await
        .unwrap();
    let leases = insert(&inbox, &holder("a"), &["1"]).await;

    let mut unit = inbox.begin().await.unwrap();
    unit.savepoint().await.unwrap();
    let write = "INSERT INTO effect VALUES ('lost')";
    unit.connection().execute(write).await.unwrap();
    unit.connection().execute("COMMIT").await.unwrap_err();
    unit.release().await.unwrap_err();
    drop(unit);
    let mut unit = inbox.begin().await.unwrap();
    unit.savepoint().await.unwrap();
    let write = "INSERT INTO effect VALUES ('kept')";
    unit.connection().execute(write).await.unwrap();
    assert!(unit.release().await.unwrap());
    let settled = unit
        .settle(&holder("a"), &[settlement(leases[0], Status::Processed)])
        .await;
    unit.commit().await.unwrap();

    assert_eq!(settled.unwrap(), leases);
    let stored: Vec<String> = sqlx::query_scalar("SELECT name FROM effect")
        .fetch_all(&beside)
        .await
        .unwrap();
    assert_eq!(stored, ["kept"]);
}
