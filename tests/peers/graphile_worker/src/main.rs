//! graphile_worker: jobs are fetched in batches into a local queue and deleted in batches.

use std::time::Duration;

use anyhow::Result;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions,
};
use peer_harness::{EFFECT, Handled, Order, Peer, Run, Workload};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

const CONNECTIONS: u32 = 32;
const CONCURRENCY: usize = 64;
const LOCAL_QUEUES: usize = 2;
const LOCAL_QUEUE: usize = 2_500;
const COMPLETE_AFTER: Duration = Duration::from_millis(5);
const ENQUEUED_AT_ONCE: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OrderCreated(Order);

#[derive(Debug, Clone)]
struct Shop {
    pool: PgPool,
    workload: Workload,
    handled: Handled,
}

impl TaskHandler for OrderCreated {
    const IDENTIFIER: &'static str = "order_created";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let shop = context.get_ext::<Shop>().ok_or("the shop is not there")?;
        if shop.workload == Workload::Insert {
            sqlx::query(EFFECT)
                .bind(self.0.order_id)
                .bind(self.0.sku)
                .bind(self.0.quantity)
                .execute(&shop.pool)
                .await
                .map_err(|error| error.to_string())?;
        }
        shop.handled.add();
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let run = Run::start().await?;
    let pool = PgPoolOptions::new()
        .min_connections(CONNECTIONS)
        .max_connections(CONNECTIONS)
        .connect(run.database_url())
        .await?;
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .concurrency(CONCURRENCY)
        .local_queue(
            LocalQueueConfig::default()
                .with_queue_count(LOCAL_QUEUES)
                .with_size(LOCAL_QUEUE),
        )
        .complete_job_batch_delay(COMPLETE_AFTER)
        .add_extension(Shop {
            pool,
            workload: run.workload(),
            handled: run.handled.clone(),
        })
        .define_job::<OrderCreated>()
        .init()
        .await?;

    let spec = JobSpec::default();
    let jobs: Vec<_> = run
        .orders()
        .map(|order| (OrderCreated(order), &spec))
        .collect();
    for jobs in jobs.chunks(ENQUEUED_AT_ONCE) {
        worker.create_utils().add_jobs(jobs).await?;
    }

    let peer = Peer {
        name: "graphile_worker",
        package: "graphile_worker",
        tuned: format!(
            "{LOCAL_QUEUES} local queues of {LOCAL_QUEUE}, {CONCURRENCY} at once, completions in batches of {COMPLETE_AFTER:?}, \
             {CONNECTIONS} connections; the insert is through the pool, not in the job's transaction"
        ),
        unfinished: "SELECT count(*) FROM graphile_worker._private_jobs",
    };
    run.measure(peer, async move { Ok(worker.run().await?) })
        .await
}
