//! C: the host's clock is wrong, and jumps.
//!
//! Workers run under a clock of their own, which the library of Debian's package `faketime` gives
//! them; times that are only measured, not told, go on as they are. Whether a row is due and a lease
//! has lapsed is the database's to say. SQLite has no clock but its process's, so this is Postgres's
//! alone; nothing here tells how far the clocks are apart.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use eventflow_tests::{
    eventually,
    shop::OnPostgres,
    site::Site,
    work::{End, WorkRequested},
    worker::{Worker, WorkerConfig},
};
use tempfile::TempDir;

use super::DEADLINE;

on_postgres!(c1_a_clock_that_is_an_hour_off_and_jumps_changes_no_lease_and_no_due_time,);

// Inline a killed worker leaves no leases behind.
owned_at_birth_on_postgres!(c1_a_killed_workers_leases_lapse_in_time_whatever_its_clock_said);

/// A host's clock that a test sets.
struct Clock {
    file: PathBuf,
    _folder: TempDir,
}

impl Clock {
    /// A clock this far from the true one, as `-1h`.
    fn new(offset: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Self {
            file: folder.path().join("offset"),
            _folder: folder,
        };
        clock.set(offset);
        clock
    }

    fn set(&self, offset: &str) {
        std::fs::write(&self.file, offset).unwrap();
    }

    /// Starts a worker that has this clock.
    fn start(&self, config: &WorkerConfig) -> Worker {
        let library = library().display().to_string();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Worker::start_with(config, &environment)
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    folders
        .map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is not installed; on Debian: `apt-get install faketime`")
}

/// How far the clock of a worker's last line of log is from ours.
fn skew(worker: &Worker) -> TimeDelta {
    let logs = worker.logs();
    let last = logs.lines().rev().find_map(|line| {
        let time = line.split_whitespace().next()?;
        DateTime::parse_from_rfc3339(time).ok()
    });
    last.unwrap().with_timezone(&Utc) - Utc::now()
}

/// How many of the rows satisfy a condition.
async fn rows_where(site: &Site<impl OnPostgres>, condition: &str) -> String {
    let sql = format!("SELECT count(*)::text FROM event_inbox WHERE {condition}");
    site.database.texts(sql).await.remove(0)
}

async fn c1_a_clock_that_is_an_hour_off_and_jumps_changes_no_lease_and_no_due_time<
    D: OnPostgres,
>() {
    let site = Site::<D>::start().await;
    let mut config = site.worker();
    config.backoff = Duration::from_secs(3);
    config.lease = Duration::from_secs(2);
    config.claim_idle = Duration::from_secs(30);
    // So few that neither worker takes them all.
    config.batch_size = 1;
    let (fast, slow) = (Clock::new("+1h"), Clock::new("-1h"));
    let (mut ahead, mut behind) = (fast.start(&config), slow.start(&config));
    let hour = TimeDelta::hours(1);
    let minutes = TimeDelta::minutes(5);
    for (worker, offset) in [(&ahead, hour), (&behind, -hour)] {
        worker.logs_say("consumer started").await;
        assert!((skew(worker) - offset).abs() < minutes, "{}", worker.logs());
    }

    // Each runs for longer than two leases, or is due again after three seconds.
    let mut ids = site
        .publish((0..4).map(|_| WorkRequested::taking(5_000)))
        .await;
    ids.extend(
        site.publish((0..4).map(|_| WorkRequested::ending(End::FailOnce)))
            .await,
    );
    ids.sort();
    eventually(DEADLINE, async || {
        ahead.logs().contains("work begins") && behind.logs().contains("work begins")
    })
    .await;
    fast.set("-1h");
    slow.set("+1h");
    site.await_rows("processed", &ids).await;
    let reports = [ahead.stop().await, behind.stop().await];
    assert!((skew(&ahead) + hour).abs() < minutes, "{}", ahead.logs());
    assert!((skew(&behind) - hour).abs() < minutes, "{}", behind.logs());

    assert_eq!(site.effects().await, ids);
    for count in ["recovered", "lease_lost", "crash_looped", "claimed"] {
        let counts = reports.each_ref().map(|report| report.count(count));
        assert_eq!(counts, [0, 0], "{count}");
    }
    let waited = "retry_count = 1 AND processed_at - last_error_at BETWEEN '3 s' AND '1 min'";
    assert_eq!(rows_where(&site, waited).await, "4");
    let true_times = "received_at BETWEEN now() - INTERVAL '5 min' AND now()
        AND processed_at BETWEEN received_at AND now()";
    assert_eq!(rows_where(&site, true_times).await, "8");
}

async fn c1_a_killed_workers_leases_lapse_in_time_whatever_its_clock_said<D: OnPostgres>() {
    let site = Site::<D>::start().await;
    let (fast, slow) = (Clock::new("+1h"), Clock::new("-1h"));
    let ids = site.publish([WorkRequested::taking(1_000)]).await;
    let mut killed = fast.start(&site.worker());
    killed.logs_say("work begins").await;
    killed.kill();

    let mut other = slow.start(&site.worker());
    site.await_rows("processed", &ids).await;
    let report = other.stop().await;

    assert_eq!(report.count("recovered"), 1);
    assert_eq!(site.effects().await, ids);
}
