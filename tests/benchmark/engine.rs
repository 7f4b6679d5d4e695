//! The consumer under measure.

use std::{sync::OnceLock, time::Duration};

use eventflow::{
    Inbox, RedisStream, Source,
    consumer::{ConsumerBuilder, ConsumerHandle},
    delivery::Delivery,
    prelude::*,
};

use crate::{
    Result,
    event::{self, GROUP, STREAM},
    job::{Job, Mode, Outcome, Place, Work},
    service::{Idle, postgres, sqlite},
    usage::Usage,
};

/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Consumes until all events of the job are processed.
pub(crate) async fn run(job: &Job) -> Result<Outcome> {
    match &job.place {
        Place::Servers {
            redis,
            postgres: url,
        } => {
            let stream = RedisStream::builder(redis).stream(STREAM).group(GROUP);
            let stream = stream.connect().await?;
            let inbox = PgInbox::connect(url).await?;
            match job.work {
                Work::Nothing => {
                    consume(job, Consumer::builder(stream, inbox, Idle::new(()))).await
                }
                Work::Insert => {
                    let service = postgres::Reserving::new(());
                    consume(job, Consumer::builder(stream, inbox, service)).await
                }
            }
        }
        Place::Sqlite { file } => {
            let stream = MemoryStream::new(STREAM).group(GROUP);
            stream.open().await?;
            event::fill(&stream, job.events).await?;
            let inbox = SqliteInbox::open(file).await?;
            match job.work {
                Work::Nothing => {
                    consume(job, Consumer::builder(stream, inbox, Idle::new(()))).await
                }
                Work::Insert => {
                    let service = sqlite::Reserving::new(());
                    consume(job, Consumer::builder(stream, inbox, service)).await
                }
            }
        }
    }
}

async fn consume<Src, I, S>(job: &Job, builder: ConsumerBuilder<Src, I, S>) -> Result<Outcome>
where
    Src: Source,
    I: Inbox,
    S: Service<Delivery<I>> + Send + 'static,
    S::Error: Into<eventflow::BoxError>,
    S::Future: Send + 'static,
{
    let builder = match job.mode {
        Mode::Owned => builder,
        Mode::Inline => builder.inline(),
    };
    let consumer = builder.build()?;
    let handle = consumer.handle();
    let outcome = OnceLock::new();
    let begun = Usage::now()?;
    consumer
        .run_until(async {
            processed(&handle, job.events).await;
            outcome.get_or_init(|| Outcome::since(&begun));
        })
        .await?;
    outcome
        .into_inner()
        .ok_or("the consumer stopped by itself")?
}

/// Waits until so many events are processed.
async fn processed(handle: &ConsumerHandle, events: u32) {
    let mut looks = tokio::time::interval(LOOK);
    while handle.report().processed < u64::from(events) {
        looks.tick().await;
    }
}
