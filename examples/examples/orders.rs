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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use eventflow::prelude::*;
use eventflow_examples::{OrderCancelled, OrderCreated, OrderEvents, OrderPaid};
use tower::limit::ConcurrencyLimitLayer;

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
