//! Producers: they publish until they are told to stop, whatever Redis does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection,
};
use tokio::task::JoinHandle;

use crate::{
    ledger::Ledger,
    message::{Message, Messages},
};

const NAMES: [&str; 3] = ["a", "b", "c"];
const MOST_AT_ONCE: usize = 7;
const PAUSE: Duration = Duration::from_millis(120);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Producers that run in the background.
#[derive(Debug)]
pub(crate) struct Producers {
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Producers {
    pub(crate) fn start(redis: &str, ledger: &Arc<Ledger>, rng: &mut fastrand::Rng) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let produce = |name| {
            let mut messages = Messages::new(name, rng.fork());
            let mut publisher = Publisher::new(redis, Arc::clone(ledger));
            let stopping = Arc::clone(&stopping);
            tokio::spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    publisher.publish(&messages.some(MOST_AT_ONCE)).await;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        };
        Self {
            tasks: NAMES.map(produce).into(),
            stopping,
        }
    }

    /// Stops them once Redis has answered what they have sent.
    pub(crate) async fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Publishes until Redis answers: what it has taken without an answer becomes a duplicate.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Client,
    connection: Option<MultiplexedConnection>,
    ledger: Arc<Ledger>,
}

impl Publisher {
    pub(crate) fn new(redis: &str, ledger: Arc<Ledger>) -> Self {
        Self {
            client: Client::open(redis).unwrap(),
            connection: None,
            ledger,
        }
    }

    pub(crate) async fn publish(&mut self, messages: &[Message]) {
        self.ledger.plan(messages);
        loop {
            if let Ok(entries) = self.try_publish(messages).await {
                return self.ledger.answered(entries);
            }
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }

    async fn try_publish(&mut self, messages: &[Message]) -> RedisResult<Vec<String>> {
        let mut pipeline = redis::pipe();
        for message in messages {
            pipeline.cmd("XADD").arg("work").arg("*");
            for (name, value) in &message.fields {
                pipeline.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        // One that has failed is not put back.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let entries = pipeline.query_async(&mut connection).await?;
        self.connection = Some(connection);
        Ok(entries)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}
