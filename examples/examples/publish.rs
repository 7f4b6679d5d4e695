//! Publishes orders to stream `orders`, for the example `orders`.
//!
//! ```sh
//! cargo run --example publish -- --redis redis://localhost --count 1000
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use clap::Parser;
use eventflow::prelude::*;
use eventflow_examples::{OrderCancelled, OrderCreated, OrderPaid};

#[derive(Parser)]
struct Arguments {
    /// The stream's server.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis: String,
    /// How many orders; each second one is paid, each tenth one is cancelled.
    #[arg(long, default_value_t = 100)]
    count: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let stream = RedisStream::builder(&arguments.redis)
        .stream("orders")
        .connect()
        .await?;

    let mut published = 0;
    for number in 0..arguments.count {
        let order_id = Uuid::now_v7();
        let created = Envelope::new(&OrderCreated {
            order_id,
            sku: format!("sku-{}", number % 10),
            quantity: 1 + number % 3,
        })?;
        let correlation_id = created.metadata().event_id.clone();
        let mut batch = vec![created];
        if number % 2 == 0 {
            let amount = 1999;
            batch.push(Envelope::new(&OrderPaid { order_id, amount })?);
        }
        if number % 10 == 9 {
            batch.push(Envelope::new(&OrderCancelled { order_id })?);
        }
        let batch: Vec<_> = batch
            .into_iter()
            .map(|envelope| envelope.with_correlation_id(&correlation_id))
            .collect();
        published += stream.send(&batch).await?.len();
    }

    println!("published {published} events of {} orders", arguments.count);
    Ok(())
}
