//! Events that come one by one, from a producer that knows when each was sent.

use std::time::{Duration, Instant};

use deadpool_redis::redis::{Client, aio::MultiplexedConnection};
use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Result, event,
    job::{Latencies, Trickle},
    service::Start,
};

/// Events that are sent before the first that counts: they open the connections.
const WARM_UP: u32 = 20;
const WARM_UP_PAUSE: Duration = Duration::from_millis(50);

/// No event takes as long as this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends events and measures how long each takes to its handler, which tells when it starts.
pub(crate) async fn measure(
    trickle: &Trickle,
    started: &mut UnboundedReceiver<Start>,
) -> Result<Latencies> {
    let redis = Client::open(trickle.redis.as_str())?;
    let mut redis = redis.get_multiplexed_async_connection().await?;
    let sent = send(&mut redis, trickle).await?;
    latencies_of(&sent, started).await
}

/// Sends all events at their times, however long the earlier ones take; answers when each was sent.
async fn send(redis: &mut MultiplexedConnection, trickle: &Trickle) -> Result<Vec<Instant>> {
    let mut sent = Vec::new();
    for (events, pause) in [(WARM_UP, WARM_UP_PAUSE), (trickle.events, trickle.pause)] {
        let mut ticks = tokio::time::interval(pause);
        for _ in 0..events {
            ticks.tick().await;
            let command = event::add(u32::try_from(sent.len())?)?;
            sent.push(Instant::now());
            command.exec_async(redis).await?;
        }
    }
    Ok(sent)
}

async fn latencies_of(
    sent: &[Instant],
    started: &mut UnboundedReceiver<Start>,
) -> Result<Latencies> {
    // Three digits of microseconds.
    let mut latencies = Histogram::<u64>::new(3)?;
    for _ in sent {
        let start = tokio::time::timeout(PATIENCE, started.recv()).await?;
        let Start { number, time } = start.ok_or("the handler is gone")?;
        let sent = sent.get(usize::try_from(number)?);
        let latency = time.duration_since(*sent.ok_or("an event came that was not sent")?);
        if number >= WARM_UP {
            latencies.record(u64::try_from(latency.as_micros())?)?;
        }
    }
    Ok(Latencies {
        p50: latencies.value_at_quantile(0.5),
        p99: latencies.value_at_quantile(0.99),
    })
}
