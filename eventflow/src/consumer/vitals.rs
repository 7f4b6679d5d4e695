//! What a [`ConsumerHandle`](super::ConsumerHandle) sees of a consumer: signs of life that its loops
//! leave here as they go.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    calls::RunningCalls,
    contact::Contact,
    health::{Health, LoopHealth, Phase},
    settings::Settings,
};

/// How long a server may take to answer before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signs of life of one consumer.
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) calls: RunningCalls,
    pub(super) broker: Contact,
    pub(super) database: Contact,
    workers: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    loops: Vec<LoopHealth>,
    last_read: Option<Instant>,
    last_commit: Option<Instant>,
}

impl Vitals {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            calls: RunningCalls::new(settings.lease),
            // A server may wait longer than it is told to.
            broker: Contact::new(settings.block.saturating_mul(2).saturating_add(PATIENCE)),
            database: Contact::new(PATIENCE),
            workers: settings.workers,
            state: Mutex::new(State {
                phase: Phase::Starting,
                loops: Vec::new(),
                last_read: None,
                last_commit: None,
            }),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Notes that the stream has answered a read.
    pub(super) fn note_read(&self) {
        self.lock().last_read = Some(Instant::now());
    }

    /// Notes that rows were committed, new ones or next states.
    pub(super) fn note_commit(&self) {
        self.lock().last_commit = Some(Instant::now());
    }

    /// Runs a loop, and notes when it begins and when it has ended in whatever way.
    pub(super) async fn alive<F: Future>(&self, name: &'static str, turning: F) -> F::Output {
        let _turning = Turning::begin(self, name);
        turning.await
    }

    pub(super) fn health(&self) -> Health {
        let stuck = self.calls.stuck();
        let state = self.lock();
        Health {
            phase: state.phase,
            loops: state.loops.clone(),
            workers: self.workers,
            stuck,
            broker_reachable: self.broker.is_reachable(),
            database_reachable: self.database.is_reachable(),
            last_read: state.last_read.map(|at| at.elapsed()),
            last_commit: state.last_commit.map(|at| at.elapsed()),
        }
    }

    /// Whether no worker takes anything, until one of their calls ends.
    pub(super) fn all_workers_are_stuck(&self) -> bool {
        self.health().all_workers_are_stuck()
    }

    /// Whether no row comes to its handler, until a call ends that blocks in the service.
    pub(super) fn service_is_stuck(&self) -> bool {
        self.health().service_is_stuck()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop that turns, until it ends, also by a panic.
struct Turning<'v> {
    vitals: &'v Vitals,
    name: &'static str,
}

impl<'v> Turning<'v> {
    fn begin(vitals: &'v Vitals, name: &'static str) -> Self {
        let mut state = vitals.lock();
        match state.loops.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.started += 1;
                known.alive += 1;
            }
            None => state.loops.push(LoopHealth {
                name,
                started: 1,
                alive: 1,
            }),
        }
        drop(state);
        Self { vitals, name }
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        let mut state = self.vitals.lock();
        if let Some(known) = state.loops.iter_mut().find(|known| known.name == self.name) {
            known.alive -= 1;
        }
    }
}

/// A consumer that has been started; it has stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Started(pub(super) std::sync::Arc<Vitals>);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.enter(Phase::Stopped);
    }
}
