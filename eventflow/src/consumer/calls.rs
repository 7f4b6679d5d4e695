//! The calls that run now, and which of them hold their thread.
//!
//! A call that never yields cannot be cut by a timer. It can be seen: one poll of it goes on for
//! longer than the whole call may take. What follows from that is [`watchdog`](super::watchdog)'s
//! part.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use tokio::task;

use super::health::StuckCall;
use crate::{
    envelope::Envelope,
    inbox::{Lease, Row},
};

/// How long beyond its limit a call may hold its thread, unless a lease is shorter.
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// The calls that run now, by the leases of their rows.
#[derive(Debug)]
pub(super) struct RunningCalls {
    grace: Duration,
    calls: Mutex<HashMap<Lease, Arc<RunningCall>, RandomState>>,
    /// The row in the recovery lane, which keeps no worker.
    recovering: Mutex<Option<Lease>>,
}

#[derive(Debug)]
struct RunningCall {
    event: Envelope,
    task: Option<task::Id>,
    /// How long the whole call may take.
    limit: Duration,
    polled_since: Mutex<Option<Instant>>,
    /// The service's `poll_ready` or `call` is at work, or waited for.
    in_service: AtomicBool,
    noticed: AtomicBool,
}

/// A call that was found to hold its thread.
pub(super) struct Stuck {
    pub(super) lease: Lease,
    /// The task that is held with it.
    pub(super) task: Option<task::Id>,
    pub(super) call: StuckCall,
}

impl RunningCalls {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            grace: lease.min(LONGEST_GRACE),
            calls: Mutex::default(),
            recovering: Mutex::default(),
        }
    }

    /// Notes which row is in the recovery lane from now on.
    pub(super) fn recover(&self, lease: Option<Lease>) {
        *lock(&self.recovering) = lease;
    }

    /// Keeps an eye on the call of a row, which may take `limit`, for as long as what it answers
    /// lives.
    pub(super) fn watch(&self, row: &Row, limit: Duration) -> Watched<'_> {
        let running = Arc::new(RunningCall {
            event: row.envelope.clone(),
            task: task::try_id(),
            limit,
            polled_since: Mutex::default(),
            in_service: AtomicBool::new(false),
            noticed: AtomicBool::new(false),
        });
        lock(&self.calls).insert(row.lease, Arc::clone(&running));
        Watched {
            calls: self,
            lease: row.lease,
            running,
        }
    }

    /// The rows whose handlers run: they do not wait for the service.
    pub(super) fn handling(&self) -> Vec<Lease> {
        let calls = lock(&self.calls);
        let handling = calls.iter().filter(|(_, call)| !call.in_service());
        handling.map(|(lease, _)| *lease).collect()
    }

    /// For how long a call has held its thread by now, at most.
    pub(super) fn longest_hold(&self) -> Duration {
        let calls = lock(&self.calls);
        let holds = calls.values().filter_map(|call| call.held_for());
        holds.max().unwrap_or_default()
    }

    /// The calls that hold their threads for too long.
    pub(super) fn stuck(&self) -> Vec<StuckCall> {
        let recovering = *lock(&self.recovering);
        let calls = lock(&self.calls);
        let stuck = calls.iter().filter_map(|(lease, call)| {
            let mut stuck = call.stuck(self.grace)?;
            stuck.recovering = recovering == Some(*lease);
            Some(stuck)
        });
        stuck.collect()
    }

    /// Those of them that were not answered here before.
    pub(super) fn newly_stuck(&self) -> Vec<Stuck> {
        let calls = lock(&self.calls);
        let stuck = calls.iter().filter_map(|(lease, running)| {
            let call = running.stuck(self.grace)?;
            let noticed = running.noticed.swap(true, Ordering::Relaxed);
            (!noticed).then_some(Stuck {
                lease: *lease,
                task: running.task,
                call,
            })
        });
        stuck.collect()
    }

    pub(super) fn is_stuck(&self, lease: Lease) -> bool {
        let calls = lock(&self.calls);
        let call = calls.get(&lease);
        call.is_some_and(|call| call.stuck(self.grace).is_some())
    }
}

impl RunningCall {
    fn in_service(&self) -> bool {
        self.in_service.load(Ordering::Relaxed)
    }

    fn held_for(&self) -> Option<Duration> {
        lock(&self.polled_since).map(|since| since.elapsed())
    }

    fn stuck(&self, grace: Duration) -> Option<StuckCall> {
        let held_for = self.held_for()?;
        let metadata = self.event.metadata();
        (held_for > self.limit.saturating_add(grace)).then(|| StuckCall {
            event_id: metadata.event_id.clone(),
            event_type: metadata.event_type.clone(),
            held_for,
            recovering: false,
            in_service: self.in_service(),
        })
    }
}

/// A call in the list, until it ends in whatever way.
pub(super) struct Watched<'c> {
    calls: &'c RunningCalls,
    lease: Lease,
    running: Arc<RunningCall>,
}

impl Watched<'_> {
    /// Waits for the service, which all calls share.
    pub(super) async fn wait_for<F: Future>(&self, service: F) -> F::Output {
        let _asked = Asked::begin(&self.running);
        self.run(service).await
    }

    /// Runs what the service has answered.
    pub(super) async fn run<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        poll_fn(|cx| {
            let _polled = Polled::begin(&self.running);
            call.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        lock(&self.calls.calls).remove(&self.lease);
    }
}

/// The service is asked.
struct Asked<'c>(&'c RunningCall);

impl<'c> Asked<'c> {
    fn begin(call: &'c RunningCall) -> Self {
        call.in_service.store(true, Ordering::Relaxed);
        Self(call)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.in_service.store(false, Ordering::Relaxed);
    }
}

/// A poll that goes on.
struct Polled<'c>(&'c RunningCall);

impl<'c> Polled<'c> {
    fn begin(call: &'c RunningCall) -> Self {
        *lock(&call.polled_since) = Some(Instant::now());
        Self(call)
    }
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        *lock(&self.0.polled_since) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
