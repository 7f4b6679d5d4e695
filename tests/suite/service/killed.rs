//! A worker process that is killed with SIGKILL in the middle of a batch.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use eventflow::prelude::*;
use eventflow_tests::{
    eventually,
    work::{WorkRequested, effects},
};

use super::Site;

struct Worker(Child);

impl Worker {
    fn start(site: &Site) -> Self {
        Command::new(env!("CARGO_BIN_EXE_worker"))
            .args([&site.redis.url(), site.database.url(), "billing", "1000"])
            .stdin(Stdio::piped())
            .spawn()
            .map(Self)
            .unwrap()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_finishes_what_a_killed_one_had_begun() {
    let site = Site::start().await;
    let events: Vec<Envelope> = (0..400)
        .map(|_| Envelope::new(&WorkRequested::taking(10)).unwrap())
        .collect();
    site.sink().await.send(&events).await.unwrap();

    let mut first = Worker::start(&site);
    eventually(Duration::from_secs(30), async || {
        effects(&site.pool).await.0 > 0
    })
    .await;
    first.kill();
    let (before, _) = effects(&site.pool).await;
    assert!(before < 400, "the worker was to be killed in the middle");

    let _second = Worker::start(&site);
    site.await_rows("processed", 400).await;

    assert_eq!(effects(&site.pool).await, (400, 400));
    eventually(Duration::from_secs(10), async || {
        site.pending("billing").await == 0
    })
    .await;
}
