//! How connections behave: their limits of time, and for how long a statement is waited for.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// How long a transaction may stay open beyond the longest handler.
const IDLE_MARGIN: Duration = Duration::from_secs(30);

/// How long an answer may be on its way after the statement's own time.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How long the wait for a connection lasts. While the server refuses connections, the pool tries
/// again after a fifth of this at the longest.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What each connection is told when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) options: bool,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
}

impl Session {
    /// How long an answer may take: what the server gives a statement, and the way.
    pub(crate) fn patience(&self) -> Duration {
        if self.statement_timeout.is_zero() {
            return Duration::MAX;
        }
        self.statement_timeout.saturating_add(ANSWER_MARGIN)
    }

    /// A pool for what a consumer asks. Opens no connection yet.
    pub(crate) fn pool(
        &self,
        options: &PgConnectOptions,
        connections: u32,
        longest_handler: Duration,
    ) -> PgPool {
        let mut options = options.clone();
        if self.options {
            let idle = longest_handler.saturating_add(IDLE_MARGIN);
            options = options.options([
                ("TimeZone", "UTC".to_owned()),
                ("statement_timeout", milliseconds(self.statement_timeout)),
                ("lock_timeout", milliseconds(self.lock_timeout)),
                ("idle_in_transaction_session_timeout", milliseconds(idle)),
            ]);
        }
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options)
    }
}

fn milliseconds(duration: Duration) -> String {
    // The settings are 32-bit integers.
    duration.as_millis().min(2_147_483_647).to_string()
}
