//! A broker that refuses what a test says.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use eventflow::{Envelope, Error, ErrorKind, Sink, stream::EntryId};

/// Takes batches whole or not at all, and remembers what it took.
#[derive(Debug, Clone, Default)]
pub(super) struct Broker {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<String>,
    refuses: HashMap<String, ErrorKind>,
    breaks_at: HashSet<String>,
    busy_at: HashSet<String>,
    stalls_at: HashSet<String>,
    is_away: bool,
    refuses_all: bool,
}

impl Broker {
    /// Refuses the event of this id, with an error of this kind that does not pass.
    pub(super) fn refuse(&self, event_id: &str, kind: ErrorKind) {
        let mut state = self.state.lock().unwrap();
        state.refuses.insert(event_id.to_owned(), kind);
    }

    /// Closes the connection at the event of this id.
    pub(super) fn break_at(&self, event_id: &str) {
        let mut state = self.state.lock().unwrap();
        state.breaks_at.insert(event_id.to_owned());
    }

    /// Answers the event of this id that it cannot take it just now.
    pub(super) fn be_busy_at(&self, event_id: &str) {
        let mut state = self.state.lock().unwrap();
        state.busy_at.insert(event_id.to_owned());
    }

    /// Does not answer for the event of this id.
    pub(super) fn stall_at(&self, event_id: &str) {
        let mut state = self.state.lock().unwrap();
        state.stalls_at.insert(event_id.to_owned());
    }

    /// Takes what it has refused.
    pub(super) fn accept(&self) {
        let mut state = self.state.lock().unwrap();
        state.refuses.clear();
        state.breaks_at.clear();
        state.busy_at.clear();
        state.refuses_all = false;
    }

    /// Refuses every event, as one that takes none of this user.
    pub(super) fn refuse_all(&self) {
        self.state.lock().unwrap().refuses_all = true;
    }

    pub(super) fn go_away(&self, away: bool) {
        self.state.lock().unwrap().is_away = away;
    }

    /// The ids of the events that it took, in order.
    pub(super) fn taken(&self) -> Vec<String> {
        self.state.lock().unwrap().taken.clone()
    }
}

impl Sink for Broker {
    async fn send(&self, envelopes: &[Envelope]) -> Result<Vec<EntryId>, Error> {
        let has = |ids: &HashSet<String>| {
            let mut sent = envelopes.iter().map(|each| &each.metadata().event_id);
            sent.any(|id| ids.contains(id))
        };
        let stalls = has(&self.state.lock().unwrap().stalls_at);
        if stalls {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        let away = || Error::new(ErrorKind::Stream, "the broker is away").transient(true);
        if has(&state.breaks_at) {
            return Err(away().disconnected(true));
        }
        if state.is_away || has(&state.busy_at) {
            return Err(away());
        }
        if state.refuses_all {
            return Err(Error::new(ErrorKind::Stream, "the user may not publish"));
        }
        let ids = || envelopes.iter().map(|each| &each.metadata().event_id);
        if let Some(kind) = ids().find_map(|id| state.refuses.get(id)) {
            return Err(Error::new(*kind, "the event is too large"));
        }
        let first = state.taken.len();
        state.taken.extend(ids().cloned());
        let entries = first..state.taken.len();
        Ok(entries
            .map(|number| EntryId {
                stream: Arc::from("orders"),
                id: format!("{number}-0"),
            })
            .collect())
    }
}
