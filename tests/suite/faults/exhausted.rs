//! Rows P4 and P5: the database is there, and has no room, no connection or no time.

use std::{
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use eventflow::{Consumer, PgInbox};
use eventflow_tests::{
    always, eventually,
    gate::Gate,
    postgres::PostgresServer,
    proxy::Proxy,
    running::Running,
    shop::{GROUP, Mode, OnPostgres, Script, Shop, names, router, soon},
};
use futures_util::FutureExt;
use sqlx::{PgPool, pool::PoolConnection, postgres::PgPoolOptions};

use super::{
    DEADLINE,
    redis_shop::{RedisConsumer, RedisShop},
};

on_postgres!(
    p4_disk_full,
    p4_disk_full_in_a_handler,
    p4_too_many_connections,
    p5_pool_exhausted,
    p5_one_connection_left,
    p5_slow_database,
);

/// Long enough for dozens of tries of whoever does not wait between them.
const A_WHILE: Duration = Duration::from_secs(1);

/// How many entries a consumer of one worker and batches of ten has read and not stored, at most: four
/// batches are being stored, and one waits for them. Inline six more wait for the worker, which stores
/// one.
const fn most_unstored(mode: Mode) -> i64 {
    if mode.inline { 120 } else { 50 }
}

/// Numbers that sort as their names do.
pub(super) const FIRST: u32 = 1_000;

/// Each order has one effect, and no run has failed.
async fn done_once(shop: &Shop<impl OnPostgres>, orders: std::ops::Range<u32>) {
    let names = names(orders);
    eventually(DEADLINE, async || {
        shop.event_ids("processed").await == names
    })
    .await;
    assert_eq!(shop.effects().await, names);
    let retried = "SELECT event_id FROM event_inbox WHERE retry_count <> 0";
    assert!(shop.database.texts(retried).await.is_empty());
}

/// A script in which order `FIRST` waits at the gate; the others write their effect at once.
fn first_waits<D: OnPostgres>(gate: &Gate) -> Script<D> {
    let gate = gate.clone();
    Script::new().on_order(move |mut call| {
        let gate = gate.clone();
        async move {
            if call.event.number == FIRST {
                gate.pass().await;
            }
            call.write().await
        }
        .boxed()
    })
}

/// The inbox's table takes no writes any more as soon as there is a row in `full`.
async fn limit_disk(shop: &Shop<impl OnPostgres>) {
    for sql in [
        "CREATE TABLE full_disks ()",
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF EXISTS (SELECT FROM full_disks) THEN
                PERFORM nextval('tries');
                RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
            END IF;
            RETURN NULL;
         END $$",
        "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON event_inbox
         FOR EACH STATEMENT EXECUTE FUNCTION disk_full()",
    ] {
        shop.database.change(sql).await;
    }
}

/// How often something was to be written since the disk is full.
async fn tries(shop: &Shop<impl OnPostgres>) -> u32 {
    let tries = shop
        .database
        .texts("SELECT last_value::text FROM tries")
        .await;
    tries[0].parse().unwrap()
}

async fn p4_disk_full<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    limit_disk(&shop).await;
    let gate = Gate::new();
    let consumer = shop.consumer(first_waits(&gate)).workers(1);
    let running = Running::start(consumer.build().unwrap());
    shop.orders(FIRST..FIRST + 1).await;
    gate.entered().await;

    let insert = "INSERT INTO full_disks DEFAULT VALUES";
    shop.database.change(insert).await;
    let full = Instant::now();
    // Once more where its settlement fails.
    gate.open();
    shop.orders(FIRST + 1..FIRST + 20).await;

    // Storing, claiming, recovering and settling each try again, ever more slowly.
    eventually(DEADLINE, async || tries(&shop).await >= 32).await;
    assert!(full.elapsed() > A_WHILE, "tried {:?}", full.elapsed());
    assert!(shop.stream.pending() > 0, "acknowledged and not stored");
    // Inline its row was stored before, and is not written again.
    let done = D::MODE.inline.then_some(FIRST);
    assert_eq!(shop.effects().await, names(done));
    shop.database.change("DELETE FROM full_disks").await;
    done_once(&shop, FIRST..FIRST + 20).await;
    let report = running.stop().await;
    assert_eq!((report.processed, report.failed), (20, 0), "{report}");
    assert_eq!(shop.stream.pending(), 0);
}

async fn p4_disk_full_in_a_handler<D: OnPostgres>() {
    const FULL: &str = "DO $$ BEGIN RAISE 'disk full' USING ERRCODE = '53100'; END $$";

    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            if call.event.number == 1 {
                call.execute(FULL).await?;
            }
            call.write().await
        }
        .boxed()
    });
    shop.orders(0..3).await;

    let consumer = shop.consumer(script).workers(1).backoff(soon());
    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!((report.processed, report.handed_back), (2, 1), "{report}");
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(shop.column("order-1", "status").await, "pending");
    assert_eq!(shop.column("order-1", "retry_count").await, "0");
}

async fn p4_too_many_connections<D: OnPostgres>() {
    let server = PostgresServer::start().await;
    let url = server.create_database().await;
    let shop = Shop::on(D::of(&url).await).await;
    // The limits do not hold for a superuser.
    for sql in [
        "CREATE ROLE shop LOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO shop",
    ] {
        shop.database.change(sql).await;
    }
    let url = url.replacen("postgres@", "shop@", 1);
    let inbox = PgInbox::connect(&url).await.unwrap();
    let gate = Gate::new();
    let router = router::<D>(first_waits(&gate));
    let consumer = Consumer::builder(shop.stream.clone(), inbox, router);
    let consumer = D::MODE.set(consumer).workers(1);
    let running = Running::start(consumer.build().unwrap());
    shop.orders(FIRST..FIRST + 1).await;
    gate.entered().await;

    server.run("ALTER ROLE shop CONNECTION LIMIT 0").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'";
    server.run(end).await;
    let full = Instant::now();
    // Once more after its session has ended.
    gate.open();
    shop.orders(FIRST + 1..FIRST + 20).await;

    let refused = || {
        let log = server.log();
        log.matches("FATAL:  too many connections for role").count()
    };
    eventually(DEADLINE, async || refused() >= 50).await;
    assert!(full.elapsed() > A_WHILE, "tried {:?}", full.elapsed());
    assert!(shop.stream.pending() > 0, "acknowledged and not stored");
    assert!(shop.effects().await.is_empty());
    server.run("ALTER ROLE shop CONNECTION LIMIT -1").await;
    done_once(&shop, FIRST..FIRST + 20).await;
    let report = running.stop().await;
    assert_eq!((report.processed, report.failed), (20, 0), "{report}");
    assert_eq!(shop.stream.pending(), 0);
}

/// A consumer of batches of ten that stores through this inbox.
async fn small_batches<D: OnPostgres>(site: &RedisShop<D>, inbox: PgInbox) -> RedisConsumer<D> {
    let consumer = site.consumer_with(inbox, Script::new()).await;
    consumer.batch_size(10).workers(1)
}

/// A pool of the fewest connections that a consumer of one worker takes.
pub(super) async fn smallest_pool(site: &RedisShop<impl OnPostgres>) -> PgPool {
    PgPoolOptions::new()
        .max_connections(3)
        .acquire_timeout(Duration::from_millis(200))
        .connect(site.shop.database.url())
        .await
        .unwrap()
}

/// Takes connections of the pool away from the consumer, which uses them.
pub(super) async fn hold(pool: &PgPool, connections: usize) -> Vec<PoolConnection<sqlx::Postgres>> {
    let mut held = Vec::new();
    while held.len() < connections {
        held.extend(pool.acquire().await);
    }
    held
}

async fn p5_pool_exhausted<D: OnPostgres>() {
    let site = RedisShop::<D>::open().await;
    let pool = smallest_pool(&site).await;
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
    let running = Running::start(small_batches(&site, inbox).await.build().unwrap());
    site.orders(FIRST..FIRST + 1).await;
    done_once(&site.shop, FIRST..FIRST + 1).await;

    let held = hold(&pool, 3).await;
    site.orders(FIRST + 1..FIRST + 101).await;

    eventually(DEADLINE, async || site.pending().await > 0).await;
    always(A_WHILE, async || {
        (1..=most_unstored(D::MODE)).contains(&site.pending().await)
    })
    .await;
    drop(held);
    done_once(&site.shop, FIRST..FIRST + 101).await;
    eventually(DEADLINE, async || site.pending().await == 0).await;
    let report = running.stop().await;
    assert_eq!((report.processed, report.failed), (101, 0), "{report}");
}

/// Nothing waits for a connection while it holds another, so one is enough to go on. Fewer than
/// three are refused when the consumer is built.
async fn p5_one_connection_left<D: OnPostgres>() {
    let site = RedisShop::<D>::open().await;
    let pool = smallest_pool(&site).await;
    let inbox = PgInbox::with_pool(pool.clone()).connect().await.unwrap();
    let _held = hold(&pool, 2).await;
    site.orders(FIRST..FIRST + 100).await;

    let consumer = small_batches(&site, inbox).await.build().unwrap();
    let drained = tokio::time::timeout(DEADLINE, consumer.drain()).await;

    let report = drained.expect("the consumer waits for itself").unwrap();
    assert_eq!((report.processed, report.units_lost), (100, 0), "{report}");
    done_once(&site.shop, FIRST..FIRST + 100).await;
}

/// What is read and not stored is a few batches; what is leased and not done, as much as fits into
/// the queue and the worker.
async fn p5_slow_database<D: OnPostgres>() {
    let site = RedisShop::<D>::open().await;
    let url = site.shop.database.url();
    let port = url
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split_once('/'));
    let proxy = Proxy::start(port.unwrap().0.parse().unwrap()).await;
    proxy.delay(Duration::from_millis(3));
    let inbox = PgInbox::connect(&proxy.url(url)).await.unwrap();
    site.orders(FIRST..FIRST + 150).await;
    // Before the consumer does, so that what is pending can be asked from the start.
    let group = ["XGROUP", "CREATE", "shop", GROUP, "0"];
    let _: () = site.redis.run(&group).await;

    let running = Running::start(small_batches(&site, inbox).await.build().unwrap());

    let (unread, waiting) = (AtomicI64::new(0), AtomicUsize::new(0));
    eventually(DEADLINE, async || {
        unread.fetch_max(site.pending().await, Ordering::Relaxed);
        let rows = site.shop.event_ids("processing").await.len();
        waiting.fetch_max(rows, Ordering::Relaxed);
        site.shop.event_ids("processed").await.len() == 150
    })
    .await;
    let (unread, waiting) = (unread.into_inner(), waiting.into_inner());
    let most = most_unstored(D::MODE);
    assert!(unread <= most, "{unread} entries were read and not stored");
    // Six batches, the worker's, and one that is claimed.
    assert!(waiting <= 80, "{waiting} rows waited");
    done_once(&site.shop, FIRST..FIRST + 150).await;
    let report = running.stop().await;
    assert_eq!((report.processed, report.failed), (150, 0), "{report}");
}
