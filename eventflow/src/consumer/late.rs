//! Acknowledgements that the stream did not take at once.
//!
//! A worker that has stored a batch does not wait for them: its retries and its other rows go on while
//! the stream is away.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::{
    engine::Engine,
    lanes::{acknowledge, try_acknowledge},
};
use crate::{
    error::chain,
    inbox::Inbox,
    stream::{EntryId, Source},
};

/// How many may be late before nothing more is read: a stream may be read whose user must not
/// acknowledge.
const MOST: usize = 1_000;

/// Entries whose rows are committed, and that are to be acknowledged.
#[derive(Debug, Default)]
pub(super) struct Late {
    entries: Mutex<Vec<EntryId>>,
    /// Those that are being acknowledged included.
    number: AtomicUsize,
    added: Notify,
    acknowledged: Notify,
}

impl Late {
    /// Waits until more may be read.
    pub(super) async fn room(&self) {
        loop {
            let acknowledged = self.acknowledged.notified();
            if self.number.load(Ordering::SeqCst) < MOST {
                return;
            }
            acknowledged.await;
        }
    }

    fn add(&self, entries: &[EntryId]) {
        self.number.fetch_add(entries.len(), Ordering::SeqCst);
        let mut late = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        late.extend_from_slice(entries);
        self.added.notify_one();
    }

    fn take(&self) -> Taken<'_> {
        let mut late = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Taken {
            entries: std::mem::take(&mut late),
            late: self,
        }
    }
}

/// Entries that are being acknowledged. They are late no more when it is dropped: if a drain was cut
/// before the server had them, they come again.
struct Taken<'l> {
    entries: Vec<EntryId>,
    late: &'l Late,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.late
            .number
            .fetch_sub(self.entries.len(), Ordering::SeqCst);
        self.late.acknowledged.notify_waiters();
    }
}

/// Acknowledges entries whose rows are committed, now or by [`acknowledge_late`].
pub(super) async fn acknowledge_soon<Src, I>(engine: &Engine<Src, I>, entries: &[EntryId])
where
    Src: Source,
    I: Inbox,
{
    if entries.is_empty() {
        return;
    }
    if let Err(error) = try_acknowledge(engine, entries).await {
        tracing::debug!(
            entries = entries.len(),
            error = chain(&error),
            "stored entries could not be acknowledged at once"
        );
        engine.late.add(entries);
    }
}

/// Acknowledges what is late until the consumer stops; what is left then comes again, and is found to
/// be stored.
pub(super) async fn acknowledge_late<Src, I>(engine: Arc<Engine<Src, I>>)
where
    Src: Source,
    I: Inbox,
{
    loop {
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = engine.late.added.notified() => acknowledge_all(&engine).await,
        }
    }
}

/// Acknowledges what is late by now, and waits for the server.
pub(super) async fn acknowledge_all<Src, I>(engine: &Engine<Src, I>)
where
    Src: Source,
    I: Inbox,
{
    let taken = engine.late.take();
    acknowledge(engine, &taken.entries).await;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn more_is_read_while_few_entries_are_late() {
        let entry = EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        };
        let late = Late::default();
        late.add(&vec![entry.clone(); MOST - 1]);
        assert!(late.room().now_or_never().is_some());

        late.add(&[entry]);
        let mut room = Box::pin(late.room());
        assert!(room.as_mut().now_or_never().is_none());
        let taken = late.take();
        assert_eq!(taken.entries.len(), MOST);
        assert!(room.as_mut().now_or_never().is_none());

        drop(taken);
        assert!(room.now_or_never().is_some());
    }
}
