//! Acknowledgements that the stream did not take at once.
//!
//! A worker that has stored a batch does not wait for them: its retries and its other rows go on while
//! the stream is away.

use std::sync::{Arc, Mutex, PoisonError};

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

/// Entries whose rows are committed, and that are to be acknowledged. There are few: nothing more can
/// be read while the stream is away.
#[derive(Debug, Default)]
pub(super) struct Late {
    entries: Mutex<Vec<EntryId>>,
    added: Notify,
}

impl Late {
    fn add(&self, entries: &[EntryId]) {
        let mut late = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        late.extend_from_slice(entries);
        self.added.notify_one();
    }

    fn take(&self) -> Vec<EntryId> {
        let mut late = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut late)
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
    acknowledge(engine, &engine.late.take()).await;
}
