//! What a consumer's handle shows: where it is, whether its servers answer, which calls hold their
//! threads.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use eventflow::{
    Delivery,
    consumer::{ConsumerHandle, Health, Phase},
    prelude::*,
};
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    proxy::Proxy,
    redis::RedisServer,
    running::Running,
    shop::{Builder, Database, Postgres, Script, Shop, names, router},
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tower::service_fn;

use super::DEADLINE;

on_every_database!(
    health_follows_a_consumer_from_its_start_to_its_end,
    a_service_that_blocks_in_its_call_is_shown,
);

// Inline the call holds the transaction with the rows, until the server ends its session.
owned_at_birth!(a_call_that_never_yields_is_shown_and_its_event_runs_elsewhere);

const SHORT: Duration = Duration::from_millis(100);

async fn shows(handle: &ConsumerHandle, what: impl Fn(&Health) -> bool) {
    eventually(DEADLINE, async || what(&handle.health())).await;
}

async fn health_follows_a_consumer_from_its_start_to_its_end<D: Database>() {
    let shop = Shop::<D>::open().await;
    let go_on = Arc::new(Semaphore::new(0));
    let script = Script::new().on_parcel({
        let go_on = Arc::clone(&go_on);
        move |_| {
            let go_on = Arc::clone(&go_on);
            async move {
                go_on.acquire().await.unwrap().forget();
                Ok(())
            }
            .boxed()
        }
    });
    let consumer = shop.consumer(script).workers(3).build().unwrap();
    let handle = consumer.handle();

    let health = handle.health();
    assert_eq!(health.phase, Phase::Starting);
    assert_eq!((health.last_read, health.last_commit), (None, None));
    assert!(health.is_live() && !health.is_ready(), "{health:?}");

    let running = Running::start(consumer);
    shop.parcels(0..1).await;
    shows(&handle, |health| health.last_commit.is_some()).await;
    let health = handle.health();
    assert_eq!(health.phase, Phase::Running);
    assert!(health.is_live() && health.is_ready(), "{health:?}");
    assert!(health.last_read.is_some(), "{health:?}");
    let workers = health.loops.iter().find(|each| each.name == "worker");
    let workers = workers.unwrap();
    assert_eq!((workers.started, workers.alive), (3, 3));
    assert_eq!(handle.report().stored, 1);

    let stopping = tokio::spawn(running.stop());
    shows(&handle, |health| health.phase == Phase::Draining).await;
    let health = handle.health();
    assert!(health.is_live() && !health.is_ready(), "{health:?}");

    go_on.add_permits(1);
    let report = stopping.await.unwrap();
    let health = handle.health();
    assert_eq!(health.phase, Phase::Stopped);
    assert!(!health.is_live(), "{health:?}");
    assert!(
        health.loops.iter().all(|each| each.alive == 0),
        "{health:?}"
    );
    assert_eq!(handle.report(), report);
}

/// Blocks the thread of whoever comes first, until the test lets go.
#[derive(Clone)]
struct Block(Arc<Mutex<Option<mpsc::Receiver<()>>>>);

impl Block {
    fn new() -> (mpsc::Sender<()>, Self) {
        let (let_go, block) = mpsc::channel();
        (let_go, Self(Arc::new(Mutex::new(Some(block)))))
    }

    fn hold_thread(&self) {
        let first = self.0.lock().unwrap().take();
        if let Some(block) = first {
            block.recv().unwrap();
        }
    }
}

/// A consumer with one worker, whose calls count as stuck soon.
fn impatient<D: Database>(shop: &Shop<D>, script: Script<D>) -> Builder<D> {
    shop.consumer(script)
        .workers(1)
        .handler_timeout(SHORT)
        .lease(SHORT * 3)
}

async fn a_call_that_never_yields_is_shown_and_its_event_runs_elsewhere<D: Database>() {
    let shop = Shop::<D>::open().await;
    let (let_go, block) = Block::new();
    let blocking = Script::new().on_parcel(move |parcel| {
        let block = block.clone();
        async move {
            if parcel.event.number == 2 {
                block.hold_thread();
            }
            Ok(())
        }
        .boxed()
    });
    shop.parcels(0..5).await;
    let consumer = impatient(&shop, blocking).build().unwrap();
    let handle = consumer.handle();
    let stuck = Running::start(consumer);

    shows(&handle, |health| !health.stuck.is_empty()).await;
    let health = handle.health();
    let call = &health.stuck[0];
    assert_eq!(
        (&*call.event_id, &*call.event_type),
        ("parcel-2", "ParcelShipped")
    );
    assert!(call.held_for > SHORT * 4, "{call:?}");
    assert!(!health.is_live() && !health.is_ready(), "{health:?}");

    let other = Running::start(impatient(&shop, Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 5).await;
    let_go.send(()).unwrap();
    shows(&handle, |health| health.stuck.is_empty()).await;
    assert!(handle.health().is_live());
    let late = stuck.stop().await;
    let report = other.stop().await;

    // The recovery lane of either may have had it.
    assert_eq!(late.processed + report.processed, 5, "{late}{report}");
    assert_eq!(late.recovered + report.recovered, 1, "{late}{report}");
    assert!(late.lease_lost >= 1, "{late}");
}

/// A consumer with two workers whose service blocks in its first call: not in the future that it
/// answers, but itself, which all workers wait for.
async fn blocked_in_its_call<D: Database>(shop: &Shop<D>) -> (mpsc::Sender<()>, Running) {
    let (let_go, block) = Block::new();
    let blocking = service_fn(move |_: Delivery<D::Inbox>| {
        block.hold_thread();
        std::future::ready(Ok::<(), Failure>(()))
    });
    let consumer = shop.serving(blocking);
    let consumer = consumer.workers(2).handler_timeout(SHORT).lease(SHORT * 3);
    let consumer = consumer.build().unwrap();
    let handle = consumer.handle();
    let running = Running::start(consumer);
    shows(&handle, |health| !health.stuck.is_empty()).await;
    (let_go, running)
}

async fn a_service_that_blocks_in_its_call_is_shown<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.parcels(0..1).await;

    let (let_go, running) = blocked_in_its_call(&shop).await;
    let health = running.health();
    assert!(health.stuck[0].in_service, "{health:?}");
    assert!(!health.is_live() && !health.is_ready(), "{health:?}");

    let_go.send(()).unwrap();
    eventually(DEADLINE, async || running.health().is_live()).await;
    running.stop().await;
}

/// On SQLite the blocked call holds the one writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_service_that_blocks_in_its_call_run_elsewhere() {
    let shop = Shop::<Postgres>::open().await;
    shop.parcels(0..5).await;

    let (let_go, stuck) = blocked_in_its_call(&shop).await;
    let other = Running::start(impatient(&shop, Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 5).await;
    let_go.send(()).unwrap();
    let late = stuck.stop().await;
    let report = other.stop().await;

    assert_eq!(late.processed + report.processed, 5, "{late}{report}");
    assert!(late.lease_lost >= 1, "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_calls_unit_is_rolled_back_and_its_events_run_elsewhere() {
    let shop = Shop::<Postgres>::open().await;
    let (let_go, block) = Block::new();
    let blocking = Script::<Postgres>::new().on_order(move |mut call| {
        let block = block.clone();
        async move {
            call.write().await?;
            if call.event.number == 2 {
                block.hold_thread();
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..5).await;
    let consumer = impatient(&shop, blocking).build().unwrap();
    let handle = consumer.handle();
    let stuck = Running::start(consumer);
    shows(&handle, |health| !health.stuck.is_empty()).await;

    let other = Running::start(impatient(&shop, Script::new()).build().unwrap());
    eventually(DEADLINE, async || shop.counts().await.processed == 5).await;
    let_go.send(()).unwrap();
    let late = stuck.stop().await;
    let report = other.stop().await;

    assert_eq!(shop.effects().await, names(0..5));
    assert_eq!(late.processed + report.processed, 5, "{late}{report}");
    assert!(late.lease_lost >= 1, "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_is_shown() {
    let server = PostgresServer::start().await;
    let mut proxy = Proxy::start(server.port()).await;
    let shop = Shop::<Postgres>::open().await;
    let inbox = PgInbox::connect(&proxy.url(&server.create_database().await))
        .await
        .unwrap();
    inbox.migrate().await.unwrap();
    inbox.outbox().migrate().await.unwrap();
    let consumer = Consumer::builder(
        shop.stream.clone(),
        inbox,
        router(Script::<Postgres>::new()),
    )
    .poll_interval(SHORT)
    .build()
    .unwrap();
    let handle = consumer.handle();
    let running = Running::start(consumer);
    shows(&handle, Health::is_ready).await;

    proxy.refuse().await;
    proxy.cut();
    shows(&handle, |health| !health.database_reachable).await;
    let health = handle.health();
    assert!(health.broker_reachable && health.is_live(), "{health:?}");
    assert!(!health.is_ready());

    proxy.accept().await;
    shows(&handle, Health::is_ready).await;

    // Nothing comes back, not even an error.
    proxy.stall();
    shows(&handle, |health| !health.database_reachable).await;
    proxy.flow();
    shows(&handle, Health::is_ready).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_answer_is_shown() {
    let mut server = RedisServer::start().await;
    let stream = RedisStream::builder(server.url())
        .stream("shop")
        .group("shop")
        .connect()
        .await
        .unwrap();
    let shop = Shop::<Postgres>::open().await;
    let consumer = Consumer::builder(stream, shop.inbox(), router(Script::<Postgres>::new()))
        .block(SHORT)
        .build()
        .unwrap();
    let handle = consumer.handle();
    let running = Running::start(consumer);
    shows(&handle, Health::is_ready).await;

    server.kill();
    shows(&handle, |health| !health.broker_reachable).await;
    let health = handle.health();
    assert!(health.database_reachable && health.is_live(), "{health:?}");
    assert!(!health.is_ready());

    server.start_again().await;
    shows(&handle, Health::is_ready).await;
    running.stop().await;
}
