//! A consumer to which events come one by one.

use eventflow::prelude::*;
use tokio::sync::mpsc::unbounded_channel;

use super::redis_stream;
use crate::{
    Result,
    job::{Latencies, Trickle},
    service::{Starts, Timed},
    trickle::measure,
};

/// Measures how long events take to their handler.
pub(crate) async fn trickle(trickle: &Trickle) -> Result<Latencies> {
    let stream = redis_stream(&trickle.redis).await?;
    let inbox = PgInbox::connect(&trickle.postgres).await?;
    let (starts, mut started) = unbounded_channel();
    let consumer = Consumer::builder(stream, inbox, Timed::new(Starts(starts))).build()?;

    let mut latencies = Err("the consumer stopped by itself".into());
    consumer
        .run_until(async {
            latencies = measure(trickle, &mut started).await;
        })
        .await?;
    latencies
}
