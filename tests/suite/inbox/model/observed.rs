//! The table as SQL shows it, past the inbox.

use serde::Deserialize;
use uuid::Uuid;

use super::super::fixture::Fixture;

/// One row. Times are microseconds.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Observed {
    pub(super) id: Uuid,
    pub(super) consumer: String,
    pub(super) event_id: String,
    pub(super) status: String,
    pub(super) retry_count: i32,
    pub(super) max_retries: i32,
    pub(super) token: i64,
    pub(super) holder: Option<String>,
    pub(super) recovering: u8,
    pub(super) error: Option<String>,
    /// When the row runs next: the end of time if it is parked.
    pub(super) due: i64,
    pub(super) locked_until: Option<i64>,
    pub(super) finished: i64,
    pub(super) now: i64,
}

impl Observed {
    /// Reads all rows.
    pub(super) async fn all<F: Fixture>(fixture: &F) -> Vec<Self> {
        let sql = format!(
            "SELECT CAST({object}(
                'id', id, 'consumer', consumer, 'event_id', event_id, 'status', status,
                'retry_count', retry_count, 'max_retries', max_retries, 'token', lock_token,
                'holder', locked_by, 'recovering', CAST(recovering AS INTEGER),
                'error', error_message, 'due', {due}, 'locked_until', {locked_until},
                'finished', {finished}, 'now', {now}) AS TEXT)
            FROM event_inbox",
            object = F::JSON_OBJECT,
            due = F::micros("COALESCE(next_retry_at, received_at)"),
            locked_until = F::micros("locked_until"),
            finished = F::micros("COALESCE(processed_at, last_error_at, received_at)"),
            now = F::micros(&F::in_seconds(0)),
        );
        let rows = fixture.texts(&sql).await;
        rows.iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect()
    }
}
