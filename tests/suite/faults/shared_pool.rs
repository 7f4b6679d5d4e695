//! Row P6: the inbox's pool is the user's too, whose calls are cut where sqlx does not bear it.

use std::time::Duration;

use eventflow::{
    inbox::{Due, Holder, Inbox},
    prelude::*,
};
use eventflow_tests::shop::{GROUP, OnPostgres, Script, Shop, Sqlite, names, router};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::cancelled::cut_at;

on_postgres!(
    p6_users_pool_that_is_poisoned,
    p6_users_pool_that_is_poisoned_and_aborted,
);

/// A pool of the user's whose connections all are inside a transaction, by handlers that were cut
/// in a `begin` of their own.
async fn poisoned_pool<D: OnPostgres>(shop: &Shop<D>) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(3);
    let pool = pool.connect(shop.database.url()).await.unwrap();
    for polls in (1..=6).cycle() {
        // All at once, so that each has a connection of its own.
        let begin = || cut_at(polls, pool.begin());
        drop(tokio::join!(begin(), begin(), begin()));
        // A connection that is given out again has ended all that it was to end.
        let take = || pool.acquire();
        let taken = tokio::try_join!(take(), take(), take()).unwrap();
        let mut taken = <[_; 3]>::from(taken);
        let mut sessions = Vec::new();
        for connection in &mut taken {
            let session = sqlx::query_scalar("SELECT pg_backend_pid()::text");
            let session: String = session.fetch_one(&mut **connection).await.unwrap();
            sessions.push(session);
        }
        // Not those of connections that were cut before the pool had them.
        let idle = "SELECT pid::text FROM pg_stat_activity WHERE state = 'idle in transaction'";
        let idle = shop.database.texts(idle).await;
        drop(taken);
        if sessions.iter().all(|session| idle.contains(session)) {
            break;
        }
    }
    pool
}

/// What is answered as stored is stored all the same.
async fn p6_users_pool_that_is_poisoned<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    let pool = Box::pin(poisoned_pool(&shop)).await;
    let inbox = PgInbox::with_pool(pool).connect().await.unwrap();
    shop.orders(0..20).await;

    let router = router::<D>(Script::new());
    let consumer = Consumer::builder(shop.stream.clone(), inbox, router);
    let consumer = D::MODE.set(consumer).workers(1);
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.units_lost), (20, 0), "{report}");
    assert_eq!(shop.event_ids("processed").await, names(0..20));
    assert_eq!(shop.effects().await, names(0..20));
    assert_eq!(shop.stream.pending(), 0);
}

/// A statement of the user's has failed on each connection since: it takes no other one.
async fn p6_users_pool_that_is_poisoned_and_aborted<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    let pool = Box::pin(poisoned_pool(&shop)).await;
    let take = || pool.acquire();
    let taken = tokio::try_join!(take(), take(), take()).unwrap();
    for mut connection in <[_; 3]>::from(taken) {
        let fails = sqlx::query("SELECT 1 / 0").execute(&mut *connection);
        assert!(fails.await.is_err());
    }
    let inbox = PgInbox::with_pool(pool).connect().await.unwrap();
    let holder = Holder {
        consumer: GROUP.to_owned(),
        name: "a".to_owned(),
        lease: Duration::from_mins(1),
    };
    let claim = async || inbox.claim(&holder, Due::Now, 1).await;

    for _ in 0..3 {
        let error = claim().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }

    assert!(claim().await.unwrap().is_empty());
}

/// The connection that writes is the user's too. SQLite's own thread ends what nobody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_begin_cut_on_the_pool_of_a_sqlite_inbox() {
    let shop = Shop::<Sqlite>::open().await;
    let inbox = shop.inbox();
    let consumer = shop.consumer(Script::new()).build().unwrap();
    let mut cut = 0;

    for number in 0..60 {
        let begin = cut_at(number % 4 + 1, inbox.pool().begin());
        cut += u32::from(begin.await.is_none());
        shop.orders(number..number + 1).await;
        let report = consumer.drain().await.unwrap();
        assert_eq!((report.processed, report.units_lost), (1, 0), "{report}");
    }

    assert!(cut > 0, "none was cut");
    assert_eq!(shop.effects().await, names(0..60));
}
