//! Row P6: futures that are dropped at any of their polls, by timeouts or otherwise.
//!
//! The first test shows what sqlx does then, the others that none of it reaches the inbox: no
//! session stays in a transaction, and what was answered as done is there.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use eventflow::{
    BoxError, Delivery, Failure,
    inbox::{Admission, Arrival, Due, Holder, Inbox},
    prelude::*,
};
use eventflow_tests::{
    eventually,
    postgres::Database as FreshDatabase,
    shop::{Call, Database, GROUP, Postgres, Script, Shop, names, order},
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection as _, PgPool, postgres::PgPoolOptions};
use tower::layer::layer_fn;

use super::{DEADLINE, none_idle_in_transaction};

on_every_database!(
    p6_handlers_cut_at_every_poll,
    p6_inbox_calls_cut_at_every_poll,
);

/// Drops a future at its n-th poll, unless it is done by then.
pub(super) async fn cut_at<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// If this test fails, sqlx has mended it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_bare_sqlx_loses_commits_after_a_cut_begin() {
    let database = FreshDatabase::create().await;
    let beside = PgPool::connect(database.url()).await.unwrap();
    sqlx::query("CREATE TABLE effects (id BIGSERIAL)")
        .execute(&beside)
        .await
        .unwrap();
    let (mut cut, mut poisoned, mut written) = (0, 0, 0);

    for polls in (1..=6).cycle().take(60) {
        // The server ends a session some time after its client.
        eventually(DEADLINE, async || {
            let idle = sqlx::query_scalar::<_, String>(<Postgres>::IDLE_IN_TRANSACTION);
            idle.fetch_all(&beside).await.unwrap().is_empty()
        })
        .await;
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(database.url()).await.unwrap();
        if cut_at(polls, pool.begin()).await.is_some() {
            continue;
        }
        cut += 1;
        let insert = "INSERT INTO effects DEFAULT VALUES";
        let answer = sqlx::query(insert).execute(&pool).await;
        written += answer.unwrap().rows_affected();
        let idle = sqlx::query_scalar::<_, String>(<Postgres>::IDLE_IN_TRANSACTION);
        poisoned += idle.fetch_all(&beside).await.unwrap().len();
        pool.close().await;
    }

    let count = sqlx::query_scalar("SELECT count(*) FROM effects");
    let stored: i64 = count.fetch_one(&beside).await.unwrap();
    assert_eq!(written, cut);
    assert!(poisoned > 0, "of {cut} connections none was poisoned");
    assert_eq!(
        usize::try_from(stored).unwrap() + poisoned,
        usize::try_from(written).unwrap(),
        "a write through a poisoned connection was stored"
    );
}

/// Cuts each call at a poll that the test says: those of orders with odd numbers.
struct Cutting<S> {
    inner: S,
    polls: Arc<AtomicU32>,
}

impl<S, I: Inbox> Service<Delivery<I>> for Cutting<S>
where
    S: Service<Delivery<I>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, delivery: Delivery<I>) -> Self::Future {
        let odd = delivery
            .metadata()
            .event_id
            .ends_with(['1', '3', '5', '7', '9']);
        let polls = if odd {
            self.polls.load(Ordering::SeqCst)
        } else {
            u32::MAX
        };
        let call = self.inner.call(delivery);
        async move {
            match cut_at(polls, call).await {
                Some(answer) => answer.map_err(Into::into),
                None => Err("cut".into()),
            }
        }
        .boxed()
    }
}

/// Writes its effect in parts: outside and inside of transactions of its own.
async fn write_in_parts<D: Database>(mut call: Call<'_, D>) -> Result<(), Failure> {
    let event_id = call.meta.event_id.clone();
    call.write().await?;
    let mut kept = call.tx.begin().await?;
    D::write(&mut kept, &event_id).await?;
    kept.commit().await?;
    let mut given_up = call.tx.begin().await?;
    D::write(&mut given_up, &event_id).await?;
    given_up.rollback().await?;
    drop(call.tx.begin().await?);
    call.write().await
}

/// One consumer with one pool for all polls: a poisoned connection would be used again. In its first
/// poll a call only asks for the transaction; a cut there is no attempt.
async fn p6_handlers_cut_at_every_poll<D: Database>() {
    const ASKS: u32 = 1;

    let shop = Shop::<D>::open().await;
    let polls = Arc::new(AtomicU32::new(0));
    let given = Arc::clone(&polls);
    let consumer = shop
        .consumer(Script::<D>::new().on_order(|call| write_in_parts(call).boxed()))
        .layer(layer_fn(move |inner| Cutting {
            inner,
            polls: Arc::clone(&given),
        }))
        .workers(1)
        .build()
        .unwrap();
    let mut cut = 0;
    let mut at = ASKS;

    for round in 0.. {
        at += 1;
        polls.store(at, Ordering::SeqCst);
        shop.orders(round * 6..round * 6 + 6).await;
        let report = consumer.drain().await.unwrap();
        assert_eq!(report.processed + report.failed, 6, "{report}");
        assert!(report.processed >= 3, "order with an even number: {report}");
        let processed = shop.event_ids("processed").await;
        let parts: Vec<_> = processed.iter().flat_map(|id| [id, id, id]).collect();
        let effects = shop.effects().await;
        assert_eq!(Vec::from_iter(&effects), parts, "cut at poll {at}");
        cut += report.failed;
        // A fast answer saves a poll, so the calls take different numbers of them each time.
        if report.failed == 0 {
            at = ASKS;
        }
        if cut >= 60 && at == ASKS {
            break;
        }
    }

    none_idle_in_transaction(&shop).await;
}

/// What a call has begun, it ends, whoever still waits for it.
async fn p6_inbox_calls_cut_at_every_poll<D: Database>() {
    let shop = Shop::<D>::open().await;
    let inbox = shop.inbox();
    let holder = Holder {
        consumer: GROUP.to_owned(),
        name: "a".to_owned(),
        lease: Duration::from_mins(1),
    };

    let mut cut = 0;
    for number in 0..60 {
        let polls = number % 3 + 1;
        let arrival = arrival(&order(number));
        let insert = inbox
            .insert(&holder, vec![arrival])
            .map(|done| drop(done.unwrap()));
        let release = async {
            let rows = inbox.claim(&holder, Due::Later, 10).await.unwrap();
            let leases = rows.iter().map(|row| row.lease).collect();
            inbox.release(leases, Duration::ZERO).await.unwrap();
        };
        let begin = inbox.begin().map(|unit| drop(unit.unwrap()));
        for call in [insert.boxed(), release.boxed(), begin.boxed()] {
            cut += u32::from(cut_at(polls, call).await.is_none());
        }
    }

    assert!(cut > 60, "only {cut} calls were cut");
    let mut names = names(0..60);
    names.sort();
    let stored = "SELECT event_id FROM event_inbox ORDER BY event_id";
    eventually(DEADLINE, async || {
        shop.database.texts(stored).await == names
    })
    .await;
    none_idle_in_transaction(&shop).await;
}

fn arrival(envelope: &Envelope) -> Arrival {
    Arrival {
        id: Uuid::now_v7(),
        envelope: envelope.clone(),
        raw: None,
        admission: Admission::Run,
        max_retries: 3,
    }
}
