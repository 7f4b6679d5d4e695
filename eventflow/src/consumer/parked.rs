//! Releases rows that were left for a deploy that knows their type, and rows whose turn nobody has passed
//! on: when the consumer starts, and then as often as a lease lasts, since workers of the version before
//! it may still leave more.

use std::sync::Arc;

use super::engine::Engine;
use crate::{
    error::{Result, chain},
    inbox::Inbox,
};

/// Releases until the consumer stops.
pub(super) async fn release<Src, I>(engine: Arc<Engine<Src, I>>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    while engine.pause(engine.settings.lease).await {
        if let Err(error) = unpark(&engine).await {
            tracing::warn!(
                error = chain(&error),
                "rows that were left for this deploy could not be released yet"
            );
        }
    }
}

/// Makes the rows due that this consumer's service knows.
pub(super) async fn unpark<Src, I: Inbox>(engine: &Engine<Src, I>) -> Result<()> {
    let consumer = &engine.holder.consumer;
    let known = engine.dispatcher.routes().event_types();
    let unparked = engine.inbox.unpark(consumer, known).await?;
    if unparked > 0 {
        tracing::info!(
            rows = unparked,
            "rows that were left for this deploy are due now"
        );
        engine.due_changed.notify_one();
    }
    let due = match engine.settings.order {
        None => engine.inbox.leave_order(consumer).await?,
        Some(_) => engine.inbox.pass_turns(consumer).await?,
    };
    if due > 0 {
        tracing::info!(
            rows = due,
            "rows that waited for events of their aggregates are due now"
        );
        engine.due_changed.notify_one();
    }
    Ok(())
}
