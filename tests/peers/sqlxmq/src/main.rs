//! sqlxmq: each job is deleted in a transaction, which its handler may share.

use std::{error::Error, future::pending, time::Duration};

use anyhow::Result;
use peer_harness::{EFFECT, Handled, Order, Peer, Run, Workload};
use sqlx::postgres::PgPoolOptions;
use sqlxmq::{CurrentJob, JobRegistry, job};

const CONNECTIONS: u32 = 32;
/// More are fetched when fewer than the first run, up to the second.
const CONCURRENCY: (usize, usize) = (100, 2_000);
/// So long that a job of a batch is never due again while it waits for a connection.
const RETRY_AFTER: Duration = Duration::from_mins(10);
/// A whole batch waits for connections.
const PATIENCE: Duration = Duration::from_mins(2);
const SCHEMA: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.sql"));

#[derive(Debug, Clone)]
struct Shop {
    workload: Workload,
    handled: Handled,
}

#[job(name = "order_created")]
async fn order_created(
    mut job: CurrentJob,
    shop: Shop,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let order: Order = job.json()?.ok_or("the job has no order")?;
    if shop.workload == Workload::Insert {
        let mut tx = job.pool().begin().await?;
        sqlx::query(EFFECT)
            .bind(order.order_id)
            .bind(order.sku)
            .bind(order.quantity)
            .execute(&mut *tx)
            .await?;
        job.complete_with_transaction(tx).await?;
    } else {
        job.complete().await?;
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
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;

    // What `JobBuilder::spawn` does for one job.
    sqlx::query(
        "SELECT mq_insert(array_agg((gen_random_uuid(), interval '0', 4, $1, '', '', NULL, false, 'order_created', \
         json_build_object('order_id', gen_random_uuid(), 'sku', 'book', 'quantity', 1)::text, NULL)::mq_new_t)) \
         FROM generate_series(1, $2)",
    )
    .bind(RETRY_AFTER)
    .bind(i64::try_from(run.events())?)
    .execute(&pool)
    .await?;

    // Each poll counts the due jobs of all channels: an index alone answers that after a vacuum.
    sqlx::query("VACUUM (ANALYZE) mq_msgs, mq_payloads")
        .execute(&pool)
        .await?;

    let mut registry = JobRegistry::new(&[order_created]);
    registry.set_context(Shop {
        workload: run.workload(),
        handled: run.handled.clone(),
    });
    let mut runner = registry.runner(&pool);
    runner.set_concurrency(CONCURRENCY.0, CONCURRENCY.1);

    let peer = Peer {
        name: "sqlxmq",
        package: "sqlxmq",
        tuned: format!(
            "{} to {} jobs at once, {CONNECTIONS} connections; the insert is in the job's transaction",
            CONCURRENCY.0, CONCURRENCY.1
        ),
        unfinished: "SELECT count(*) - 1 FROM mq_msgs",
    };
    run.measure(peer, async move {
        let _runner = runner.run().await?;
        pending().await
    })
    .await
}
