//! Row P2: the server that the service is connected to has become a standby.

use std::sync::Arc;

use eventflow::prelude::*;
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    proxy::Proxy,
    redis::RedisServer,
    running::Running,
    shop::{Database, Postgres, Script, Shop, names},
};
use futures_util::FutureExt;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;

use super::{DEADLINE, redis_shop::RedisShop};

/// A name still leads to the old server for a while, which takes connections, answers pings and
/// refuses writes. Connections that are kept stay there for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_failover_while_the_name_leads_to_a_standby() {
    let mut old = PostgresServer::start().await;
    let url = old.create_database().await;
    let name = Proxy::start(old.port()).await;
    let redis = RedisServer::start().await;
    let shop = Shop::on(Postgres::of(&url).await).await;
    let mut site = RedisShop { redis, shop };
    // Full at all times, so that no connection is a new one by chance.
    let pool = PgPoolOptions::new().min_connections(3).max_connections(3);
    let pool = pool.connect(&name.url(&url)).await.unwrap();
    let inbox = PgInbox::with_pool(pool).connect().await.unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let given = Arc::clone(&permits);
    let script = Script::<Postgres>::new().on_order(move |mut call| {
        let permits = Arc::clone(&given);
        async move {
            drop(permits.acquire().await);
            call.write().await
        }
        .boxed()
    });
    let consumer = site.consumer_with(inbox, script).await.workers(1);
    let running = Running::start(consumer.build().unwrap());
    site.orders(0..2).await;
    let begun = async || site.shop.event_ids("processing").await == names(0..2);
    eventually(DEADLINE, begun).await;

    let new = old.fail_over().await;

    permits.add_permits(1);
    site.orders(2..7).await;
    // What inserts answers in a SELECT around it.
    for refused in ["SELECT", "UPDATE"] {
        let refused = format!("cannot execute {refused} in a read-only transaction");
        eventually(DEADLINE, async || old.log().matches(&refused).count() > 4).await;
    }
    assert!(site.pending().await > 0, "acknowledged and not stored");
    name.redirect(new.port());
    let database = url.rsplit_once('/').expect("a URL names a database").1;
    site.shop = Shop {
        database: Postgres::of(&new.url(database)).await,
        stream: site.shop.stream,
    };
    let done = async || site.shop.event_ids("processed").await == names(0..7);
    eventually(DEADLINE, done).await;
    eventually(DEADLINE, async || site.pending().await == 0).await;
    let report = running.stop().await;
    assert_eq!(site.shop.effects().await, names(0..7));
    assert_eq!((report.failed, report.recovered), (0, 0), "{report}");
    let retried = "SELECT event_id FROM event_inbox WHERE retry_count <> 0";
    assert!(site.shop.database.texts(retried).await.is_empty());
}
