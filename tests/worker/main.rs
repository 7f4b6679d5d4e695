//! A worker process for tests that signal and kill it; see `support/worker.rs`.

#![allow(
    clippy::exit,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a worker that cannot start should fail its test; its report is for the test"
)]

use eventflow::{
    RedisStream, Source,
    consumer::{ConsumerBuilder, UnknownEvents},
    inbox::{OrderPolicy, backoff::Backoff},
    outbox::{PgOutbox, SqliteOutbox},
    prelude::*,
    router::{Dispatch, Router},
};
use eventflow_tests::{
    chain::Chain,
    work::{WorkState, postgres, postgres_replay_safe, sqlite, sqlite_replay_safe},
    worker::{InboxAt, Job, Version, WorkerConfig},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs the version of the service that is asked for, with the handlers of its mode.
macro_rules! serve {
    ($config:expr, $inbox:expr, $database:ident, $replay_safe:ident) => {
        match ($config.version, $config.mode.replay_safe) {
            (Version::Next, false) => run($config, $inbox, $database::NextWork::new(state())).await,
            (Version::Next, true) => {
                run($config, $inbox, $replay_safe::NextWork::new(state())).await
            }
            (_, false) => run($config, $inbox, $database::Work::new(state())).await,
            (_, true) => run($config, $inbox, $replay_safe::Work::new(state())).await,
        }
    };
}

#[tokio::main]
async fn main() -> eventflow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let argument = std::env::args().nth(1).expect("usage: worker CONFIG");
    let config: WorkerConfig = serde_json::from_str(&argument).expect("CONFIG is a `WorkerConfig`");
    if config.job == Job::Relay {
        return match &config.inbox {
            InboxAt::Postgres(url) => relay(&config, PgOutbox::connect(url).await?).await,
            InboxAt::Sqlite(file) => relay(&config, SqliteOutbox::open(file).await?).await,
        };
    }
    match &config.inbox {
        InboxAt::Postgres(url) => {
            let mut builder = PgInbox::builder(url);
            if config.job == Job::Migrate {
                builder = builder.consumer(&config.group);
            }
            let inbox = builder.connect().await?;
            if config.version == Version::Chain {
                return run(&config, inbox, Chain::new(state())).await;
            }
            serve!(&config, inbox, postgres, postgres_replay_safe)
        }
        InboxAt::Sqlite(file) => {
            let inbox = SqliteInbox::open(file).await?;
            serve!(&config, inbox, sqlite, sqlite_replay_safe)
        }
    }
}

fn state() -> WorkState {
    WorkState {
        name: format!("worker-{}", std::process::id()),
        ..WorkState::default()
    }
}

async fn run<I, T>(
    config: &WorkerConfig,
    inbox: I,
    router: Router<T, I, WorkState>,
) -> eventflow::Result<()>
where
    I: Inbox,
    T: Dispatch<I, WorkState>,
{
    if config.job == Job::Migrate {
        return inbox.migrate().await;
    }
    let mut stream = RedisStream::builder(&config.redis)
        .stream("work")
        .group(&config.group)
        .command_timeout(config.redis_timeout);
    if let Some(reader) = &config.reader {
        stream = stream.consumer(reader);
    }
    let builder = Consumer::builder(stream.connect().await?, inbox, router);
    let report = tune(builder, config)
        .build()?
        .run_until(terminated())
        .await?;
    println!("{report:#?}");
    Ok(())
}

async fn relay(config: &WorkerConfig, outbox: impl OutboxTable) -> eventflow::Result<()> {
    let stream = RedisStream::builder(&config.redis)
        .stream("work")
        .command_timeout(config.redis_timeout);
    let batch_size = u32::try_from(config.batch_size).expect("a batch is no larger");
    let report = Relay::builder(outbox, stream.connect().await?)
        .batch_size(batch_size)
        .poll_interval(config.poll)
        .lease(config.lease)
        .grace(config.grace)
        .keep_published(config.keep_processed)
        .build()?
        .run_until(terminated())
        .await?;
    println!("{report:#?}");
    Ok(())
}

fn tune<Src: Source, I: Inbox, S>(
    builder: ConsumerBuilder<Src, I, S>,
    config: &WorkerConfig,
) -> ConsumerBuilder<Src, I, S> {
    let unknown = if config.leaves_unknown {
        UnknownEvents::Leave
    } else {
        UnknownEvents::DeadLetter
    };
    let builder = if config.ordered {
        // An event that always fails is not to keep its aggregate for ever.
        builder.order_policy(OrderPolicy::Skip)
    } else {
        builder
    };
    config
        .mode
        .set(builder)
        .workers(config.workers)
        .batch_size(config.batch_size)
        .high_water_mark(config.high_water_mark)
        .max_retries(config.max_retries)
        .backoff(Backoff::new(config.backoff, config.backoff).without_jitter())
        .block(config.block)
        .poll_interval(config.poll)
        .lease(config.lease)
        .claim_idle(config.claim_idle)
        .handler_timeout(config.handler_timeout)
        .grace(config.grace)
        .keep_processed(config.keep_processed)
        .unknown_events(unknown)
}

/// Completes at the first SIGTERM; the second ends the process at once.
async fn terminated() {
    let mut terminations = signal(SignalKind::terminate()).expect("signals can be waited for");
    terminations.recv().await;
    tokio::spawn(async move {
        terminations.recv().await;
        std::process::exit(128 + SignalKind::terminate().as_raw_value());
    });
}
