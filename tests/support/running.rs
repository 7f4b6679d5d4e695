//! A consumer that runs until a test stops it.

use std::time::Duration;

use eventflow::{
    Consumer, Inbox, Report, Result, Source,
    consumer::{ConsumerHandle, Health},
};
use tokio::{sync::oneshot, task::JoinHandle};

/// No consumer of a test takes as long as this to stop.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running consumer.
#[derive(Debug)]
pub struct Running {
    handle: ConsumerHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Report>>,
}

impl Running {
    /// Starts the consumer in the background.
    pub fn start<Src: Source, I: Inbox>(consumer: Consumer<Src, I>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let handle = consumer.handle();
        let task = tokio::spawn(consumer.run_until(stopped));
        Self { handle, stop, task }
    }

    /// How the consumer is at this moment.
    pub fn health(&self) -> Health {
        self.handle.health()
    }

    /// Stops the consumer as a signal would, and answers what it counted.
    pub async fn stop(self) -> Report {
        self.stop.send(()).expect("the consumer ended by itself");
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("the consumer did not stop")
            .expect("the consumer panicked")
            .expect("the consumer failed")
    }

    /// Drops the consumer's future in the middle.
    pub async fn abort(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }
}
