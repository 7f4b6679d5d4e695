//! A row of the model, and what is compared of it.

use eventflow::inbox::Status;
use uuid::Uuid;

use super::{HOLDERS, HOUR, observed::Observed};

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) event_type: &'static str,
    pub(super) max_retries: i32,
    pub(super) state: State,
    /// Taken from the table: when it is due, and when its lease ends. They order rows.
    pub(super) due: i64,
    pub(super) locked_until: Option<i64>,
}

/// What the model says about a row, and the table must say too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) retry_count: i32,
    pub(super) token: i64,
    pub(super) holder: Option<usize>,
    /// Whether the lease of an owned row has ended.
    pub(super) lapsed: bool,
    pub(super) recovering: bool,
    /// When a waiting row runs.
    pub(super) wait: Option<Wait>,
    pub(super) error: Option<String>,
    /// Whether a finished row is older than its retention.
    pub(super) old: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Over,
    Hour,
    Parked,
}

impl State {
    /// A row that enters, with no owner.
    pub(super) fn new(status: Status) -> Self {
        Self {
            status,
            retry_count: 0,
            token: 0,
            holder: None,
            lapsed: false,
            recovering: false,
            wait: None,
            error: None,
            old: false,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.status, Status::Pending | Status::Failed)
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.status, Status::Processed | Status::DeadLetter)
    }

    pub(super) fn own(&mut self, holder: usize) {
        self.status = Status::Processing;
        self.holder = Some(holder);
        self.token += 1;
        self.lapsed = false;
        self.wait = None;
    }

    pub(super) fn disown(&mut self, status: Status) {
        self.status = status;
        self.holder = None;
        self.lapsed = false;
        self.recovering = false;
        self.old = false;
    }

    /// What the table says about a row.
    pub(super) fn of(seen: &Observed) -> Self {
        let statuses = [
            Status::Pending,
            Status::Processing,
            Status::Processed,
            Status::Failed,
            Status::DeadLetter,
        ];
        let status = statuses
            .into_iter()
            .find(|status| status.as_str() == seen.status);
        let mut state = Self {
            status: status.unwrap(),
            retry_count: seen.retry_count,
            token: seen.token,
            holder: seen
                .holder
                .as_ref()
                .map(|seen| HOLDERS.iter().position(|name| name == seen).unwrap()),
            lapsed: seen.locked_until.is_some_and(|until| until < seen.now),
            recovering: seen.recovering != 0,
            wait: None,
            error: seen.error.clone(),
            old: false,
        };
        let hour = i64::try_from(HOUR.as_micros()).unwrap();
        if state.is_waiting() {
            state.wait = Some(match seen.due {
                i64::MAX => Wait::Parked,
                due if due > seen.now => Wait::Hour,
                _ => Wait::Over,
            });
        }
        state.old = state.is_finished() && seen.finished < seen.now - hour;
        state
    }
}
