//! Builds a relay: what can be set.

use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Engine, Relay, settings::Settings, vitals::Vitals};
use crate::{error::Result, outbox::OutboxTable, stream::Sink};

/// Builds a [`Relay`]; made by [`Relay::builder`].
#[must_use = "call `build` to get the relay"]
pub struct RelayBuilder<T, K> {
    outbox: T,
    sink: K,
    settings: Settings,
}

impl<T: OutboxTable, K: Sink + 'static> RelayBuilder<T, K> {
    pub(super) fn new(outbox: T, sink: K) -> Self {
        Self {
            outbox,
            sink,
            settings: Settings::default(),
        }
    }

    /// How many events are fetched and published at once. Default: 500; 1 to 10 000.
    ///
    /// Two batches may be in memory, each with up to 8 MiB of payloads and at least one event. After a
    /// crash up to two of them are published again.
    pub fn batch_size(mut self, events: u32) -> Self {
        self.settings.batch_size = events;
        self
    }

    /// How often an idle relay looks for events that nobody has told it of, and one that stands by for
    /// the lease. Default: 1 s; at least 10 ms.
    ///
    /// It is told of what its own process commits, and on Postgres of what others do. For a delayed event
    /// that it knows of it has a timer.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// How long this relay is the one that publishes unless that is extended, which happens each third of
    /// it. Default: 10 s; at least 100 ms. Also how long events wait after a relay was killed.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long the broker has to answer when the relay stops. Default: 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Deletes events that are published, instead of marking them. Default: they are kept for
    /// [`keep_published`](Self::keep_published).
    pub fn delete_published(mut self) -> Self {
        self.settings.deletes_published = true;
        self
    }

    /// How long published events are kept. Default: 7 days.
    pub fn keep_published(mut self, time: Duration) -> Self {
        self.settings.retention.published = time;
        self
    }

    /// How long dead letters are kept. Default: 30 days.
    pub fn keep_dead_letters(mut self, time: Duration) -> Self {
        self.settings.retention.dead_letter = time;
        self
    }

    /// Builds the relay.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn build(self) -> Result<Relay<T, K>> {
        self.settings.check()?;
        let holder = format!("{}-{}", std::process::id(), Uuid::now_v7());
        Ok(Relay {
            engine: Arc::new(Engine {
                outbox: self.outbox,
                sink: self.sink,
                settings: self.settings,
                holder: Arc::from(holder),
                counters: Arc::default(),
                vitals: Arc::new(Vitals::new()),
                stopping: CancellationToken::new(),
            }),
        })
    }
}

impl<T, K> fmt::Debug for RelayBuilder<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
