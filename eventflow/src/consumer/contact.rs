//! Whether a server answers: known from what the loops ask it anyhow.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What is known of one server.
#[derive(Debug)]
pub(crate) struct Contact {
    /// How long an answer may take.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many loops wait for the server to work again.
    outages: usize,
    /// How many questions wait for an answer.
    waiting: usize,
    /// When the server last answered, or was first asked since.
    since: Instant,
}

impl Contact {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            state: Mutex::new(State {
                outages: 0,
                waiting: 0,
                since: Instant::now(),
            }),
        }
    }

    /// Waits for the server's answer to a question. An error is an answer: what follows from it is
    /// an [`Outage`](super::outage::Outage) or not.
    pub(crate) async fn ask<F: Future>(&self, question: F) -> F::Output {
        let _asked = Asked::begin(self);
        let answer = question.await;
        self.lock().since = Instant::now();
        answer
    }

    pub(crate) fn outage_begins(&self) {
        self.lock().outages += 1;
    }

    pub(crate) fn outage_ends(&self) {
        let mut state = self.lock();
        state.outages = state.outages.saturating_sub(1);
    }

    /// Whether nothing failed that is still tried again, and no question waits for too long.
    pub(crate) fn is_reachable(&self) -> bool {
        let state = self.lock();
        state.outages == 0 && (state.waiting == 0 || state.since.elapsed() <= self.patience)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that waits for its answer, or is given up.
struct Asked<'c>(&'c Contact);

impl<'c> Asked<'c> {
    fn begin(contact: &'c Contact) -> Self {
        let mut state = contact.lock();
        if state.waiting == 0 {
            state.since = Instant::now();
        }
        state.waiting += 1;
        Self(contact)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
