//! The worker processes: each has a seat, and when it ends another takes it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eventflow_tests::worker::{Signal, Worker, WorkerConfig, WorkerReport};
use futures_util::future::join_all;
use tokio::sync::{Mutex as Seat, MutexGuard};

use crate::{
    modes::{Mode, Modes},
    schedule::SEATS,
};

/// No worker takes as long as this to start or to stop.
const DEADLINE: Duration = Duration::from_mins(1);

/// What a worker logs when it has started.
const STARTED: &str = "consumer started";

#[derive(Debug)]
pub(crate) struct Crew {
    config: WorkerConfig,
    modes: Modes,
    seats: [Seat<Numbered>; SEATS],
    started: AtomicUsize,
    logs: PathBuf,
    reports: Mutex<Vec<WorkerReport>>,
    surprises: Mutex<Vec<String>>,
}

/// A worker, the how manieth it is, and its mode.
#[derive(Debug)]
pub(crate) struct Numbered {
    number: usize,
    mode: Mode,
    worker: Worker,
}

impl Crew {
    /// Starts workers, whose logs are kept in a folder.
    pub(crate) async fn start(config: WorkerConfig, modes: Modes, logs: &Path) -> Self {
        let seats =
            std::array::from_fn(|number| Seat::new(Numbered::start(number, modes.next(), &config)));
        let crew = Self {
            config,
            modes,
            seats,
            started: AtomicUsize::new(SEATS),
            logs: logs.to_owned(),
            reports: Mutex::default(),
            surprises: Mutex::default(),
        };
        crew.all_started().await;
        crew
    }

    /// The settings on which recoveries depend.
    pub(crate) fn settings(&self) -> String {
        let WorkerConfig {
            lease, poll, block, ..
        } = &self.config;
        format!("lease {lease:?}, poll {poll:?}, block {block:?}")
    }

    /// The worker on a seat, for as long as nothing else is to happen to it.
    pub(crate) async fn seat(&self, seat: usize) -> MutexGuard<'_, Numbered> {
        self.seats[seat].lock().await
    }

    /// As [`seat`](Self::seat): this one, or the next whose worker owns rows at birth, if any does.
    pub(crate) async fn seat_of_owner(&self, seat: usize) -> MutexGuard<'_, Numbered> {
        for next in 0..SEATS {
            let worker = self.seat((seat + next) % SEATS).await;
            if worker.owns_at_birth() {
                return worker;
            }
        }
        self.seat(seat).await
    }

    /// Puts workers on the seats of those that have ended, for ever.
    pub(crate) async fn tend(&self) {
        loop {
            for seat in &self.seats {
                // Whoever holds it puts another there.
                if let Ok(mut seat) = seat.try_lock() {
                    self.tend_seat(&mut seat);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A worker that finds no server as it starts may end; one that has started may not.
    fn tend_seat(&self, seat: &mut Numbered) {
        let Some(status) = seat.worker.ended() else {
            return;
        };
        if seat.has_started() {
            let number = seat.number;
            self.surprise(format!("worker {number} ended by itself: {status}"));
        }
        self.renew(seat);
    }

    /// Keeps the logs of a worker that has ended, and starts another.
    pub(crate) fn renew(&self, seat: &mut Numbered) {
        self.keep_logs(seat);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        *seat = Numbered::start(number, self.modes.next(), &self.config);
    }

    /// The modes of the workers.
    pub(crate) fn modes(&self) -> &Modes {
        &self.modes
    }

    /// Stops a worker as a deploy does, and starts another; answers how long the stop took.
    pub(crate) async fn replace(&self, seat: &mut Numbered) -> Duration {
        let time = self.stop_worker(seat).await;
        self.renew(seat);
        time
    }

    /// As [`replace`](Self::replace), with all workers, one after the other.
    pub(crate) async fn replace_all(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(SEATS);
        for seat in &self.seats {
            times.push(self.replace(&mut *seat.lock().await).await);
        }
        self.all_started().await;
        times
    }

    /// Stops all workers.
    pub(crate) async fn stop_all(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(SEATS);
        for seat in &self.seats {
            let mut seat = seat.lock().await;
            times.push(self.stop_worker(&mut seat).await);
            self.keep_logs(&seat);
        }
        times
    }

    async fn stop_worker(&self, seat: &mut Numbered) -> Duration {
        self.has_started(seat).await;
        let begun = Instant::now();
        seat.worker.signal(Signal::TERM);
        let number = seat.number;
        let status = loop {
            if let Some(status) = seat.worker.ended() {
                break Some(status);
            }
            if begun.elapsed() > DEADLINE {
                seat.worker.kill();
                break None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let time = begun.elapsed();
        match status {
            Some(status) if status.success() => {
                let report = seat.worker.report();
                self.reports.lock().unwrap().push(report);
            }
            Some(status) => self.surprise(format!("worker {number} did not stop well: {status}")),
            None => self.surprise(format!("worker {number} did not stop within {DEADLINE:?}")),
        }
        time
    }

    async fn all_started(&self) {
        join_all(self.seats.iter().map(async |seat| {
            self.has_started(&mut *seat.lock().await).await;
        }))
        .await;
    }

    /// Waits until the worker has started, or another in its place.
    async fn has_started(&self, seat: &mut Numbered) {
        let begun = Instant::now();
        while !seat.has_started() {
            self.tend_seat(seat);
            assert!(
                begun.elapsed() < DEADLINE,
                "worker {} did not start:\n{}",
                seat.number,
                seat.worker.logs()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn keep_logs(&self, seat: &Numbered) {
        let file = self.logs.join(format!("worker-{}.log", seat.number));
        let logs = seat.worker.logs();
        if logs.contains("panicked at") {
            self.surprise(format!("worker {} panicked", seat.number));
        }
        std::fs::write(file, logs).unwrap();
    }

    fn surprise(&self, text: String) {
        self.surprises.lock().unwrap().push(text);
    }

    /// What the workers counted that have stopped, since this was last asked.
    pub(crate) fn take_reports(&self) -> Vec<WorkerReport> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }

    /// What no worker should have done.
    pub(crate) fn take_surprises(&self) -> Vec<String> {
        std::mem::take(&mut self.surprises.lock().unwrap())
    }
}

impl Numbered {
    fn start(number: usize, mode: Mode, config: &WorkerConfig) -> Self {
        let is_ordered = mode == Mode::Ordered;
        let redis_timeout = if is_ordered {
            // One worker reads: what it does not hear, nobody does.
            Duration::from_secs(1)
        } else {
            config.redis_timeout
        };
        let config = WorkerConfig {
            mode: mode.settings(),
            ordered: is_ordered,
            redis_timeout,
            ..config.clone()
        };
        Self {
            number,
            mode,
            worker: Worker::start(&config),
        }
    }

    /// Whether its rows are there, and leased, before it handles them.
    pub(crate) fn owns_at_birth(&self) -> bool {
        self.mode.owns_at_birth()
    }

    fn has_started(&self) -> bool {
        self.worker.logs().contains(STARTED)
    }

    /// The process's number, with which the holder of its rows begins.
    pub(crate) fn process(&self) -> u32 {
        self.worker.id()
    }

    pub(crate) fn kill(&mut self) {
        self.worker.kill();
    }

    /// Stops the process for a while, as if its machine stood still.
    pub(crate) async fn pause(&mut self, time: Duration) {
        self.worker.signal(Signal::STOP);
        tokio::time::sleep(time).await;
        self.worker.signal(Signal::CONT);
    }
}
