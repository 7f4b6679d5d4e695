//! `python-eventflow` 1.0.1 itself, beside us on the same table, stream and group.

use std::{path::PathBuf, process::Stdio, time::Duration};

use eventflow::{PgInbox, prelude::*};
use eventflow_tests::{
    eventually,
    work::{WorkRequested, rows_in},
};
use tokio::process::Command;

use super::{Running, Site};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/suite/service/python_consumer.py"
);

/// A Python with the package, in a virtual environment that later runs find again.
async fn python() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python-eventflow-1.0.1");
    let python = folder.join("bin/python");
    let check = ["-c", "import asyncpg, eventflow"];
    if let Ok(output) = Command::new(&python).args(check).output().await
        && output.status.success()
    {
        return python;
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))
    .await;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "python-eventflow==1.0.1",
        "asyncpg",
        "greenlet",
    ]))
    .await;
    python
}

async fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Site {
    fn script(&self, python: &PathBuf, mode: &str) -> Command {
        let database = self
            .database
            .url()
            .replacen("postgres://", "postgresql+asyncpg://", 1)
            .replacen("postgresql://", "postgresql+asyncpg://", 1);
        let mut command = Command::new(python);
        command
            .args([SCRIPT, mode, &self.redis.port().to_string(), &database])
            .kill_on_drop(true);
        command
    }

    /// How many effects a consumer has made, and of how many events.
    async fn done_by(&self, name: &str) -> (i64, i64) {
        sqlx::query_as("SELECT count(*), count(DISTINCT event_id) FROM effects WHERE done_by = $1")
            .bind(name)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Publishes events, each second one in the flattened style.
    async fn publish_in_both_styles(&self, events: usize) {
        let sink = self.sink().await;
        for number in 0..events {
            let event = WorkRequested::taking(1);
            if number % 2 == 0 {
                sink.publish(&event).await.unwrap();
                continue;
            }
            let (id, aggregate) = (Uuid::now_v7().to_string(), event.work_id.to_string());
            let payload = serde_json::to_string(&event).unwrap();
            let _: String = self
                .redis
                .run(&[
                    "XADD",
                    "work",
                    "*",
                    "event_id",
                    &id,
                    "event_type",
                    "WorkRequested",
                    "aggregate_id",
                    &aggregate,
                    "occurred_on",
                    "2026-01-01T00:00:00+00:00",
                    "payload",
                    &payload,
                ])
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_python_package_is_adopted_while_it_runs() {
    let python = python().await;
    let site = Site::without_inbox().await;
    run(&mut site.script(&python, "create")).await;
    site.publish_in_both_styles(30).await;
    run(&mut site.script(&python, "fill")).await;
    assert_eq!(rows_in(&site.pool, "processed").await, 10);
    assert_eq!(rows_in(&site.pool, "pending").await, 20);

    let inbox = PgInbox::builder(site.database.url())
        .consumer("billing")
        .connect()
        .await
        .unwrap();
    inbox.migrate().await.unwrap();
    assert_eq!(rows_in(&site.pool, "processed").await, 10);
    assert_eq!(rows_in(&site.pool, "pending").await, 20);

    let mut beside = site
        .script(&python, "run")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It takes a while to start, and reads only what comes after that.
    let (by_python_before, _) = site.done_by("python").await;
    eventually(Duration::from_secs(30), async || {
        site.publish_in_both_styles(1).await;
        let (by_python, _) = site.done_by("python").await;
        by_python > by_python_before
    })
    .await;
    let rust = Running::start(&site, "billing", "rust").await;
    site.publish_in_both_styles(300).await;
    let events: i64 = site.redis.run(&["XLEN", "work"]).await;
    site.await_rows("processed", events).await;
    eventually(Duration::from_secs(30), async || {
        site.pending("billing").await == 0
    })
    .await;
    assert_eq!(
        beside.try_wait().unwrap(),
        None,
        "the Python consumer ended"
    );
    beside.kill().await.unwrap();
    let report = rust.stop().await;

    let (by_rust, events_by_rust) = site.done_by("rust").await;
    let (by_python, _) = site.done_by("python").await;
    assert_eq!(by_rust, events_by_rust, "no event has two effects of ours");
    assert!(
        by_rust > 0 && by_python > by_python_before,
        "{by_rust} and {by_python}"
    );
    assert_eq!(i64::try_from(report.processed).unwrap(), by_rust);
    let without_effect: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM event_inbox WHERE event_id NOT IN (SELECT event_id FROM effects)",
    )
    .fetch_one(&site.pool)
    .await
    .unwrap();
    assert_eq!(without_effect, 0);
}
