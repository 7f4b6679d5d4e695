//! apalis with Postgres: tasks are fetched in batches, and their results stored in batches.

use std::time::Duration;

use anyhow::Result;
use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use peer_harness::{EFFECT, Handled, Order, Peer, Run, Workload};
use sqlx::{PgPool, postgres::PgPoolOptions};

const CONNECTIONS: u32 = 32;
const BATCH: usize = 5_000;
/// A whole batch waits for connections.
const PATIENCE: Duration = Duration::from_mins(2);
const ENQUEUED_AT_ONCE: usize = 10_000;

#[derive(Debug, Clone)]
struct Shop {
    pool: PgPool,
    workload: Workload,
    handled: Handled,
}

async fn order_created(order: Order, shop: Data<Shop>) -> Result<(), sqlx::Error> {
    if shop.workload == Workload::Insert {
        sqlx::query(EFFECT)
            .bind(order.order_id)
            .bind(order.sku)
            .bind(order.quantity)
            .execute(&shop.pool)
            .await?;
    }
    shop.handled.add();
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let run = Run::start().await?;
    let pool = PgPoolOptions::new()
        .min_connections(CONNECTIONS)
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect(run.database_url())
        .await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default()
        .queue("orders")
        .batch_size(BATCH)
        .lock_tasks(false);
    let mut storage = PostgresStorage::new(&pool).with_config(config);

    let orders: Vec<Order> = run.orders().collect();
    for orders in orders.chunks(ENQUEUED_AT_ONCE) {
        storage.push_bulk(orders.to_vec()).await?;
    }

    let shop = Shop {
        pool,
        workload: run.workload(),
        handled: run.handled.clone(),
    };
    let worker = WorkerBuilder::new("peer")
        .backend(storage)
        .data(shop)
        .build(order_created);
    let peer = Peer {
        name: "apalis",
        package: "apalis-postgres",
        tuned: format!(
            "batches of {BATCH}, no write when a task starts, {CONNECTIONS} connections; \
             the insert is through the pool, not in the task's transaction"
        ),
        unfinished: "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'",
    };
    run.measure(peer, async move { Ok(worker.run().await?) })
        .await
}
