//! What a session remembers of events that the broker did not take: whose wait, and which may be to blame
//! for the connections that broke.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    error::{Error, chain},
    outbox::Pending,
};

/// After so long without another failure, those that wait are tried again though others keep coming.
const ROUND: Duration = Duration::from_secs(5);

/// After so many rows that are left out, too: each fetch has to pass over them.
const LEFT_OUT: usize = 10_000;

/// How often an event must break its connection while the next one is taken.
const STRIKES: u32 = 3;

/// Within less time than this, the network is to blame.
const SPREAD: Duration = Duration::from_secs(5);

/// Aggregates whose events wait for the next round, and how often events broke their connection.
///
/// A round tries each aggregate until it fails once, and ends when there is nothing else to send.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    waiting: HashSet<Uuid>,
    /// The rows of those aggregates that were fetched in this round.
    left_out: Vec<i64>,
    /// Since when the oldest of those rows has been due.
    due_since: Option<Instant>,
    last_failure: Option<Instant>,
    /// The last one to be sent: it was alone, and its connection broke.
    suspect: Option<(i64, String)>,
    strikes: HashMap<i64, Strikes>,
}

#[derive(Debug)]
struct Strikes {
    count: u32,
    first: Instant,
}

impl Doubts {
    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The rows that are not to be fetched.
    pub(super) fn left_out(&self) -> &[i64] {
        &self.left_out
    }

    /// For how long the oldest event has been due that waits here.
    pub(super) fn lag(&self) -> Duration {
        self.due_since.map(|at| at.elapsed()).unwrap_or_default()
    }

    /// Leaves out what waits.
    pub(super) fn admit(&mut self, events: Vec<Pending>) -> Vec<Pending> {
        let (out, admitted): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|event| self.waiting.contains(&aggregate(event)));
        for event in out {
            let due_since = Instant::now().checked_sub(event.waited);
            self.due_since = self.due_since.into_iter().chain(due_since).min();
            self.left_out.push(event.id);
        }
        admitted
    }

    /// Whether those that wait are to be tried again, though there may be others.
    pub(super) fn is_round_over(&self) -> bool {
        self.left_out.len() >= LEFT_OUT || self.last_failure.is_some_and(|at| at.elapsed() >= ROUND)
    }

    /// Tries again what waits.
    pub(super) fn begin_round(&mut self) {
        self.waiting.clear();
        self.left_out.clear();
        self.due_since = None;
        self.last_failure = None;
    }

    /// An event failed, sent alone: its aggregate waits.
    pub(super) fn failed(&mut self, event: &Pending, error: &Error) {
        self.waiting.insert(aggregate(event));
        self.last_failure = Some(Instant::now());
        self.suspect = error.is_disconnected().then(|| (event.id, chain(error)));
    }

    /// The broker has taken events; answers the one that is to blame for its broken connections.
    pub(super) fn taken(&mut self, events: &[&Pending]) -> Option<(i64, String)> {
        for event in events {
            self.strikes.remove(&event.id);
        }
        let (row, reason) = self.suspect.take()?;
        if events.iter().any(|event| event.id == row) {
            return None;
        }
        let strikes = self.strikes.entry(row).or_insert_with(|| Strikes {
            count: 0,
            first: Instant::now(),
        });
        strikes.count += 1;
        if strikes.count < STRIKES || strikes.first.elapsed() < SPREAD {
            return None;
        }
        self.strikes.remove(&row);
        Some((row, reason))
    }

    /// A part of more than one event was not taken: which of them was to blame, if any, is not known.
    pub(super) fn failed_together(&mut self) {
        self.suspect = None;
    }
}

pub(super) fn aggregate(event: &Pending) -> Uuid {
    event.envelope.metadata().aggregate_id
}
