//! What all loops of a consumer share, and the small steps that several of them take.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    calls::Watched,
    conflict::despite_conflicts,
    dispatcher::{Call, Dispatcher},
    held::Held,
    intake::Promised,
    late::Late,
    optimism::Optimism,
    outage::Outage,
    report::Counters,
    settings::Settings,
    vitals::Vitals,
};
use crate::{
    delivery::{Delivery, Reservation},
    error::{BoxError, chain},
    fail_point::{self, Point},
    inbox::{Holder, Inbox, Lease, LossKind, Row, Settlement, Status},
    outbox::{OutboxTable, Outgoing},
};

/// After which time a row runs again that was handed back because the infrastructure failed.
const HAND_BACK_DELAY: Duration = Duration::from_secs(5);

/// The state that the loops share.
pub(super) struct Engine<Src, I: Inbox> {
    pub(super) source: Src,
    pub(super) inbox: I,
    /// Where handlers publish.
    pub(super) outbox: I::Outbox,
    pub(super) dispatcher: Dispatcher<I>,
    pub(super) settings: Settings,
    pub(super) holder: Holder,
    pub(super) held: Held,
    pub(super) optimism: Optimism,
    pub(super) late: Late,
    pub(super) promised: Promised,
    pub(super) counters: Arc<Counters>,
    pub(super) vitals: Arc<Vitals>,
    /// A row was scheduled that may be due before the next poll.
    pub(super) due_changed: Arc<Notify>,
    /// No more work is taken on.
    pub(super) stopping: CancellationToken,
    /// The grace period is over: running calls are cut.
    pub(super) cut: CancellationToken,
}

impl<Src: Send + Sync + 'static, I: Inbox> Engine<Src, I> {
    /// How many workers share what waits: as many as have units that do not wait for each other.
    pub(super) fn sharing(&self) -> usize {
        self.settings.workers.min(self.inbox.units_at_once())
    }

    /// Whether new events run in the transaction that stores them. In order they cannot: an event would
    /// not find out that the one before it has failed.
    pub(super) fn is_inline(&self) -> bool {
        self.settings.inline && self.settings.order.is_none()
    }

    /// A delivery without a transaction.
    pub(super) fn delivery(&self, row: &Row) -> Delivery<I> {
        let (timeout, stopping) = (self.settings.handler_timeout, self.stopping.clone());
        Delivery::new(row.envelope.clone(), timeout, stopping)
    }

    /// A delivery whose transaction is to come.
    pub(super) fn reserved_delivery(&self, row: &Row) -> (Delivery<I>, Reservation<I::Unit>) {
        let (timeout, stopping) = (self.settings.handler_timeout, self.stopping.clone());
        Delivery::reserved(row.envelope.clone(), timeout, stopping)
    }

    /// Calls the service when it is ready. Not while a transaction is open.
    ///
    /// A limit may hold calls back for longer than a consumer has to stop.
    pub(super) async fn call(
        &self,
        watched: &Watched<'_>,
        delivery: Delivery<I>,
    ) -> Result<Call, BoxError> {
        let call = watched.wait_for(self.dispatcher.call(delivery));
        tokio::select! {
            biased;
            call = call => call,
            () = self.stopping.cancelled() => {
                Err("the consumer stopped before the service was ready".into())
            }
        }
    }

    /// Waits for so long; `false` if the consumer stops before.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        let pausing = tokio::time::sleep(time);
        self.stopping.run_until_cancelled(pausing).await.is_some()
    }

    /// Waits while all workers are stuck, unless the consumer stops: what is taken on then would run nowhere.
    pub(super) async fn able_worker(&self) {
        let poll = self.settings.poll_interval;
        while self.vitals.all_workers_are_stuck() && self.pause(poll).await {}
    }

    /// Rows that no worker comes to: all are stuck, or wait for a service that is.
    pub(super) fn waiting_in_vain(&self) -> Vec<Lease> {
        if self.vitals.service_is_stuck() {
            let handling = self.vitals.calls.handling();
            let mut waiting = self.held.to_run();
            waiting.retain(|lease| !handling.contains(lease));
            return waiting;
        }
        if self.vitals.all_workers_are_stuck() {
            return self.held.waiting();
        }
        Vec::new()
    }

    /// Hands rows back with no attempt counted: at once if the consumer stops, for others to run.
    pub(super) async fn hand_back(&self, rows: &[Row]) {
        let delay = if self.stopping.is_cancelled() {
            Duration::ZERO
        } else {
            HAND_BACK_DELAY
        };
        self.release(rows.iter().map(|row| row.lease).collect(), delay)
            .await;
    }

    /// Hands rows back, due after `delay`, with no attempt counted.
    pub(super) async fn release(&self, leases: Vec<Lease>, delay: Duration) {
        if leases.is_empty() {
            return;
        }
        let released = self.put_back(leases, delay).await;
        self.counters.handed_back.add(released);
        self.due_changed.notify_one();
    }

    /// Lets go of rows that were not taken on; answers how many were still this process's.
    ///
    /// A row whose release fails lapses, and runs again in the recovery lane: nothing is lost.
    pub(super) async fn put_back(&self, leases: Vec<Lease>, delay: Duration) -> u64 {
        let releasing = despite_conflicts(|| self.inbox.release(leases.clone(), delay));
        let released = releasing.await.unwrap_or_else(|error| {
            tracing::warn!(
                rows = leases.len(),
                error = chain(&error),
                "rows could not be handed back; they run again when their lease has lapsed"
            );
            0
        });
        self.held.remove(leases);
        released
    }

    /// Writes next states that no open unit is to commit, for as long as the leases last.
    pub(super) async fn settle_apart(&self, settlements: Vec<Settlement>) {
        if settlements.is_empty() {
            return;
        }
        let mut outage = Outage::new("settling rows", &self.vitals.database);
        let give_up = Instant::now() + self.settings.lease;
        let mut is_repeated = false;
        loop {
            let lost = match self.try_settle(&settlements).await {
                Ok(settled) if is_repeated => {
                    let (seen, gone): (Vec<_>, Vec<_>) = settlements
                        .into_iter()
                        .partition(|settlement| settled.contains(&settlement.lease));
                    self.note_settled(&seen, &settled);
                    return self.note_unconfirmed(gone.iter().map(|s| s.lease).collect());
                }
                Ok(settled) => return self.note_settled(&settlements, &settled),
                Err(lost) => lost,
            };
            is_repeated = true;
            if Instant::now() >= give_up {
                tracing::error!(
                    rows = settlements.len(),
                    error = chain(&lost),
                    "rows could not be settled; they run again when their lease has lapsed"
                );
                self.held.remove(settlements.iter().map(|s| s.lease));
                return;
            }
            outage.wait(&lost).await;
        }
    }

    async fn try_settle(&self, settlements: &[Settlement]) -> crate::Result<Vec<Lease>> {
        fail_point::reach(Point::BeforeSettle).await?;
        let settling = self.inbox.settle(&self.holder, settlements);
        let settled = self.vitals.database.ask(settling).await?;
        fail_point::reach(Point::AfterSettleCommit).await?;
        Ok(settled)
    }

    /// Counts and logs what has been committed, and lets go of the leases.
    pub(super) fn note_settled(&self, settlements: &[Settlement], settled: &[Lease]) {
        self.vitals.note_commit();
        let all = settled.len() == settlements.len();
        for settlement in settlements {
            if all || settled.contains(&settlement.lease) {
                self.count(settlement);
            } else {
                self.note_lease_lost(settlement.lease);
            }
        }
        self.held.remove(settlements.iter().map(|s| s.lease));
    }

    /// Counts what has been committed to be published, and wakes the relays of this process.
    pub(super) fn note_published(&self, outgoing: &[Outgoing]) {
        if !outgoing.is_empty() {
            self.counters.published.add_len(outgoing.len());
            self.outbox.wake();
        }
    }

    fn count(&self, settlement: &Settlement) {
        match settlement.status {
            Status::Processed => self.counters.processed.one(),
            Status::Failed => {
                self.counters.failed.one();
                self.due_changed.notify_one();
            }
            Status::DeadLetter => self.counters.dead_lettered.one(),
            Status::Pending | Status::Processing => {}
        }
    }

    pub(super) fn note_handed_back(&self, row: &Row, error: &BoxError) {
        let metadata = row.envelope.metadata();
        let (event_id, event_type) = (&metadata.event_id, &metadata.event_type);
        let handler = self.dispatcher.handler(event_type);
        let error = chain(error.as_ref());
        let message = "event handed back with no attempt counted";
        // At a stop that is what is to happen.
        if self.stopping.is_cancelled() {
            tracing::debug!(event_id, event_type, handler, error, message);
        } else {
            tracing::warn!(event_id, event_type, handler, error, message);
        }
    }

    /// By a commit of this process that was stored without an answer, rows may be due, and events to be
    /// published.
    fn note_told_nobody(&self) {
        self.due_changed.notify_one();
        self.outbox.wake();
    }

    pub(super) fn note_lease_lost(&self, lease: Lease) {
        self.counters.lease_lost.one();
        self.note_told_nobody();
        self.held.remove([lease]);
        tracing::warn!(
            row = %lease.id,
            token = lease.token,
            "another worker has taken over the row; this run's writes are rolled back"
        );
    }

    /// Lets go of rows that a lost transaction has left to nobody here.
    fn note_unconfirmed(&self, gone: Vec<Lease>) {
        if gone.is_empty() {
            return;
        }
        self.counters.unconfirmed.add_len(gone.len());
        self.note_told_nobody();
        tracing::info!(
            rows = gone.len(),
            "rows of a lost unit are settled or another worker's by now"
        );
        self.held.remove(gone);
    }

    pub(super) fn note_unit_lost(&self, kind: LossKind, error: &BoxError) {
        self.counters.units_lost.one();
        tracing::warn!(
            ?kind,
            error = chain(error.as_ref()),
            "a unit of work lost its transaction; its events run again one at a time"
        );
    }

    /// Asks which rows are still this process's, until the database answers or the leases have
    /// lapsed. The answer also extends them.
    pub(super) async fn still_held(&self, rows: Vec<Row>) -> Vec<Row> {
        let mut outage = Outage::new("reading rows back", &self.vitals.database);
        let give_up = Instant::now() + self.settings.lease;
        let leases: Vec<Lease> = rows.iter().map(|row| row.lease).collect();
        loop {
            match self.inbox.extend(&self.holder, leases.clone()).await {
                Ok(held) => {
                    let (held, gone): (Vec<_>, Vec<_>) =
                        rows.into_iter().partition(|row| held.contains(&row.lease));
                    self.note_unconfirmed(gone.iter().map(|row| row.lease).collect());
                    return held;
                }
                Err(error) if Instant::now() >= give_up => {
                    tracing::error!(
                        rows = rows.len(),
                        error = chain(&error),
                        "rows could not be read back; they run again when their lease has lapsed"
                    );
                    self.held.remove(leases);
                    return Vec::new();
                }
                Err(error) => outage.wait(&error).await,
            }
        }
    }
}
