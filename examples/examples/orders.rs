//! A small real service: Redis Streams in, Postgres as the inbox, typed handlers between.
//!
//! ```sh
//! cargo run --example orders -- --redis redis://localhost --postgres postgres://shop:shop@localhost/shop
//! cargo run --example publish -- --redis redis://localhost --count 1000
//! ```
//!
//! Runs until Ctrl-C, finishes what has begun, and prints what it counted.

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use clap::Parser;
use eventflow::prelude::*;
use eventflow_examples::{OrderCancelled, OrderCreated, OrderEvents, OrderPaid};
use tower::{layer::layer_fn, limit::ConcurrencyLimitLayer};

#[derive(Parser)]
struct Arguments {
    /// The stream's server.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis: String,
    /// The inbox's database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    postgres: String,
}

/// What the handlers share.
#[derive(Clone, Default)]
struct AppState {
    mailer: Mailer,
}

/// Stands for something outside the database.
#[derive(Clone, Default)]
struct Mailer {
    sent: Arc<AtomicU64>,
}

impl FromRef<AppState> for Mailer {
    fn from_ref(state: &AppState) -> Self {
        state.mailer.clone()
    }
}

/// Reserves the goods, in the transaction that also marks the event processed.
#[handler(timeout = "5s", retry(attempts = 3, backoff = "20ms"))]
async fn reserve_stock(event: OrderCreated, tx: &mut PgConnection) -> Result<(), Failure> {
    sqlx::query("INSERT INTO reservations (order_id, sku, quantity) VALUES ($1, $2, $3)")
        .bind(event.order_id)
        .bind(event.sku)
        .bind(i64::from(event.quantity))
        .execute(tx)
        .await?;
    Ok(())
}

/// Writes nothing, so it runs beside others; the mail's idempotency key is the event's id.
#[handler(timeout = "10s")]
async fn send_receipt(event: OrderPaid, State(mailer): State<Mailer>, meta: &Metadata) {
    tracing::debug!(order_id = %event.order_id, key = meta.event_id, "receipt sent");
    mailer.sent.fetch_add(1, Ordering::Relaxed);
}

/// A layer of one's own: says which calls of its handler are slow.
#[derive(Clone)]
struct SlowCalls<S> {
    limit: Duration,
    inner: S,
}

impl<I, S> Service<Delivery<I>> for SlowCalls<S>
where
    I: Inbox,
    S: Service<Delivery<I>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery<I>) -> Self::Future {
        let event_id = delivery.metadata().event_id.clone();
        let (limit, began) = (self.limit, Instant::now());
        let answer = self.inner.call(delivery);
        Box::pin(async move {
            let answer = answer.await;
            let took = began.elapsed();
            if took > limit {
                tracing::warn!(event_id, ?took, "slow call");
            }
            answer
        })
    }
}

/// Consumes stream `orders` for the warehouse.
#[router(
    events = OrderEvents,
    handlers(reserve_stock, send_receipt),
    ignore(OrderCancelled)
)]
struct Warehouse;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let arguments = Arguments::parse();
    let inbox = PgInbox::connect(&arguments.postgres).await?;
    inbox.migrate().await?;
    let shop = sqlx::PgPool::connect(&arguments.postgres).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS reservations (order_id UUID, sku TEXT, quantity BIGINT)",
    )
    .execute(&shop)
    .await?;
    let stream = RedisStream::builder(&arguments.redis)
        .stream("orders")
        .group("warehouse")
        .connect()
        .await?;

    let state = AppState::default();
    let mailer = state.mailer.clone();
    let warehouse = Warehouse::builder(state)
        .layer(send_receipt, ConcurrencyLimitLayer::new(8))
        .layer(
            reserve_stock,
            layer_fn(|inner| SlowCalls {
                limit: Duration::from_millis(100),
                inner,
            }),
        )
        .build();
    let report = Consumer::builder(stream, inbox, warehouse)
        .layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new())
                .concurrency_limit(64),
        )
        .grace(Duration::from_secs(10))
        .build()?
        .run_until(async { _ = tokio::signal::ctrl_c().await })
        .await?;

    println!("{report}");
    println!("receipts sent {:>8}", mailer.sent.load(Ordering::Relaxed));
    Ok(())
}
