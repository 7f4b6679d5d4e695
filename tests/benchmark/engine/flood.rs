//! A consumer on a stream in which all events wait.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use eventflow::{
    BoxError, Delivery, Inbox, Source,
    consumer::{ConsumerBuilder, ConsumerHandle},
    prelude::*,
};

use super::redis_stream;
use crate::{
    Result,
    event::{self, GROUP, STREAM},
    job::{Flood, Mode, Outcome, Place, Until, Work},
    service::{Idle, postgres, sqlite},
    usage::Usage,
};

/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Consumes with the service of the flood, whose type depends on the database.
macro_rules! with_service {
    ($flood:ident, $stream:ident, $inbox:ident, $database:ident) => {{
        match ($flood.work, $flood.mode) {
            (Work::Nothing, _) => {
                consume($flood, Consumer::builder($stream, $inbox, Idle::new(()))).await
            }
            (Work::Insert, Mode::Owned | Mode::Ordered) => {
                consume(
                    $flood,
                    Consumer::builder($stream, $inbox, $database::Reserving::new(())),
                )
                .await
            }
            (Work::Insert, Mode::Inline) => {
                consume(
                    $flood,
                    Consumer::builder($stream, $inbox, $database::ReplaySafe::new(())),
                )
                .await
            }
        }
    }};
}

/// Consumes until the flood is over.
pub(crate) async fn flood(flood: &Flood) -> Result<Outcome> {
    match &flood.place {
        Place::Servers {
            redis,
            postgres: url,
        } => {
            let stream = redis_stream(redis).await?;
            let inbox = PgInbox::connect(url).await?;
            with_service!(flood, stream, inbox, postgres)
        }
        Place::Sqlite { file } => {
            let stream = MemoryStream::new(STREAM).group(GROUP);
            stream.open().await?;
            if let Until::Processed(events) = flood.until {
                event::fill(&stream, events).await?;
            }
            let inbox = SqliteInbox::open(file).await?;
            with_service!(flood, stream, inbox, sqlite)
        }
    }
}

async fn consume<Src, I, S>(flood: &Flood, builder: ConsumerBuilder<Src, I, S>) -> Result<Outcome>
where
    Src: Source,
    I: Inbox,
    S: Service<Delivery<I>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    let builder = match flood.workers {
        Some(workers) => builder.workers(workers),
        None => builder,
    };
    let builder = match flood.mode {
        Mode::Owned => builder,
        Mode::Inline => builder.inline(),
        Mode::Ordered => builder.ordered(),
    };
    let consumer = builder.build()?;
    let handle = consumer.handle();
    let outcome = OnceLock::new();
    let begun = Usage::now()?;
    consumer
        .run_until(async {
            over(&handle, flood.until).await;
            outcome.get_or_init(|| Outcome::since(&begun));
        })
        .await?;
    outcome
        .into_inner()
        .ok_or("the consumer stopped by itself")?
}

/// Waits until the flood is over.
async fn over(handle: &ConsumerHandle, until: Until) {
    let mut looks = tokio::time::interval(LOOK);
    let mut processed = 0;
    let mut last = Instant::now();
    loop {
        looks.tick().await;
        let before = std::mem::replace(&mut processed, handle.report().processed);
        if processed > before {
            last = Instant::now();
        }
        let is_over = match until {
            Until::Processed(events) => processed >= u64::from(events),
            Until::Quiet(time) => last.elapsed() > time,
        };
        if is_over {
            return;
        }
    }
}
