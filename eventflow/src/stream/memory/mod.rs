//! Streams in memory: for tests, and for programs that need no server.
//!
//! How groups deliver and what they remember is [`log`]'s part; this is the handle that a consumer
//! holds.

mod log;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use self::log::{Log, Logs, Position};
use super::{Batch, EntryId, Sink, Source};
use crate::{
    envelope::{Envelope, wire},
    error::{Error, ErrorKind},
};

/// Streams in memory, with the semantics of Redis Streams: groups, pending entries, claims.
///
/// A clone is the same consumer of the same group; [`group`](Self::group) and
/// [`consumer`](Self::consumer) give others on the same streams. Without a group it can
/// only publish.
///
/// An entry is dropped once every group that was opened has acknowledged it and all before it, so
/// memory is bounded by what waits; a group that is opened later begins with what is left. Idle
/// times follow tokio's clock, which a test can pause.
///
/// # Examples
/// ```
/// use eventflow::stream::{MemoryStream, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eventflow::Result<()> {
/// let orders = MemoryStream::new("orders").group("billing");
/// orders.open().await?;
/// orders.publish_raw([("data", "{}")]);
///
/// let batch = orders.read(10, None).await?;
/// assert_eq!(batch.entries.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStream {
    server: Arc<Server>,
    streams: Arc<[Arc<str>]>,
    publish_to: Arc<str>,
    group: Option<Arc<str>>,
    limits: wire::Limits,
    consumer: Arc<Consumer>,
}

/// What all handles share.
#[derive(Default)]
struct Server {
    logs: Mutex<Logs>,
    published: Notify,
}

/// One consumer of one group; clones of a handle share it.
struct Consumer {
    name: Arc<str>,
    state: Mutex<ConsumerState>,
    /// Serialises reads: two at once would both take the own pending entries.
    reading: tokio::sync::Mutex<()>,
    interrupted: Notify,
    disconnected: Notify,
}

#[derive(Default)]
struct ConsumerState {
    /// The connection is to be found lost by the next call.
    is_disconnected: bool,
    /// Per stream, up to where the own pending entries were read; `None` once all are.
    recovered: Option<Vec<Position>>,
    /// Which stream is asked first; moves on, so that a busy one does not starve the others.
    turn: usize,
}

impl MemoryStream {
    /// A new, empty stream.
    pub fn new(stream: impl Into<Arc<str>>) -> Self {
        let stream = stream.into();
        Self {
            server: Arc::default(),
            streams: Arc::from([Arc::clone(&stream)]),
            publish_to: stream,
            group: None,
            limits: wire::Limits::default(),
            consumer: Consumer::new("consumer"),
        }
    }

    /// The same streams and one more. Publishing goes to the first, unless
    /// [`publish_to`](Self::publish_to) says otherwise.
    #[must_use]
    pub fn stream(mut self, stream: impl Into<Arc<str>>) -> Self {
        let stream = stream.into();
        if !self.streams.contains(&stream) {
            self.streams = self.streams.iter().cloned().chain([stream]).collect();
        }
        self.consumer = Consumer::new(&self.consumer.name);
        self
    }

    /// The same streams, publishing to this one.
    #[must_use]
    pub fn publish_to(mut self, stream: impl Into<Arc<str>>) -> Self {
        self.publish_to = stream.into();
        self
    }

    /// The same streams as a consumer of this group sees them.
    #[must_use]
    pub fn group(mut self, group: impl Into<Arc<str>>) -> Self {
        self.group = Some(group.into());
        self.consumer = Consumer::new(&self.consumer.name);
        self
    }

    /// The same streams as this consumer of the group sees them.
    ///
    /// The name of one that was there before is that consumer after a restart: it reads first what
    /// it had left pending. Default: `consumer`.
    #[must_use]
    pub fn consumer(mut self, name: &str) -> Self {
        self.consumer = Consumer::new(name);
        self
    }

    /// The same streams, publishing within these limits.
    #[must_use]
    pub fn limits(mut self, limits: wire::Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Publishes an entry of any fields, whatever they hold; answers its id.
    pub fn publish_raw<N, V>(&self, fields: impl IntoIterator<Item = (N, V)>) -> EntryId
    where
        N: Into<Vec<u8>>,
        V: Into<Vec<u8>>,
    {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let id = self
            .server
            .logs()
            .log(&self.publish_to)
            .append(&self.publish_to, fields);
        self.server.published.notify_waiters();
        id
    }

    /// Drops all but the newest `keep` entries of the stream that is published to, as `XTRIM` does:
    /// also those that a group has not acknowledged or not even seen.
    pub fn trim(&self, keep: usize) {
        self.server.logs().log(&self.publish_to).trim(keep);
    }

    /// Makes a read that waits, else this consumer's next call, fail as if the connection were
    /// lost.
    pub fn disconnect(&self) {
        self.consumer.state().is_disconnected = true;
        self.consumer.disconnected.notify_waiters();
    }

    /// How many entries the group has been given and has not acknowledged.
    pub fn pending(&self) -> usize {
        let logs = self.server.logs();
        self.streams
            .iter()
            .filter_map(|stream| logs.get(stream)?.pending(self.group.as_deref()?))
            .sum()
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        let logs = self.server.logs();
        self.streams
            .iter()
            .filter_map(|stream| logs.get(stream).map(Log::len))
            .sum()
    }

    /// Whether no entry is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn required_group(&self) -> Result<&Arc<str>, Error> {
        self.group.as_ref().ok_or_else(|| {
            Error::configuration("this stream only publishes; name the group with `group`")
        })
    }

    /// Notices a connection that a test has cut: own pending entries come first after it.
    fn connection(&self) -> Result<(), Error> {
        let mut state = self.consumer.state();
        if !std::mem::take(&mut state.is_disconnected) {
            return Ok(());
        }
        state.recovered = Some(self.beginnings());
        Err(Error::new(ErrorKind::Stream, "the connection was lost").transient(true))
    }

    fn beginnings(&self) -> Vec<Position> {
        vec![Position::default(); self.streams.len()]
    }

    /// What there is at once: own pending entries as long as some are left, then new ones.
    fn take(&self, count: usize) -> Result<Batch, Error> {
        self.connection()?;
        let group = self.required_group()?;
        let consumer = &self.consumer.name;
        let mut logs = self.server.logs();
        let mut state = self.consumer.state();
        let mut batch = Batch::default();
        if let Some(positions) = &mut state.recovered {
            for (stream, position) in self.streams.iter().zip(positions) {
                let mut group = logs.group(stream, group)?;
                group.own_pending(consumer, position, count, &mut batch);
            }
            if !batch.is_empty() {
                batch.redelivered = true;
                return Ok(batch);
            }
            state.recovered = None;
        }
        let streams = self.streams.len();
        let turn = state.turn % streams;
        state.turn = turn + 1;
        for stream in self.streams.iter().cycle().skip(turn).take(streams) {
            let mut group = logs.group(stream, group)?;
            group.deliver(consumer, count, &mut batch);
        }
        Ok(batch)
    }
}

impl Server {
    fn logs(&self) -> MutexGuard<'_, Logs> {
        // No call leaves the logs half changed, whatever panicked elsewhere.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::from(name),
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            interrupted: Notify::new(),
            disconnected: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, ConsumerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for MemoryStream {
    fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }

    fn streams(&self) -> Vec<Arc<str>> {
        self.streams.to_vec()
    }

    async fn open(&self) -> Result<(), Error> {
        let group = self.required_group()?;
        let mut logs = self.server.logs();
        for stream in self.streams.iter() {
            logs.log(stream).open_group(group);
        }
        self.consumer.state().recovered = Some(self.beginnings());
        Ok(())
    }

    async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch, Error> {
        let _reading = self.consumer.reading.lock().await;
        let end = block.map(|block| Instant::now() + block);
        loop {
            // Registered before looking, so that what is published in between is not missed.
            let published = self.server.published.notified();
            let disconnected = self.consumer.disconnected.notified();
            tokio::pin!(published, disconnected);
            published.as_mut().enable();
            disconnected.as_mut().enable();
            let batch = self.take(count)?;
            let Some(end) = end.filter(|_| batch.is_empty()) else {
                return Ok(batch);
            };
            tokio::select! {
                () = published => {}
                () = disconnected => {}
                () = self.consumer.interrupted.notified() => return Ok(batch),
                () = tokio::time::sleep_until(end) => return Ok(batch),
            }
        }
    }

    async fn interrupt(&self) {
        self.consumer.interrupted.notify_one();
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Error> {
        self.connection()?;
        let group = self.required_group()?;
        let mut logs = self.server.logs();
        for id in ids {
            if let Some(position) = Position::parse(&id.id) {
                logs.group(&id.stream, group)?.acknowledge(position);
            }
        }
        for stream in self.streams.iter() {
            logs.log(stream).drop_acknowledged();
        }
        Ok(())
    }

    async fn claim(&self, min_idle: Duration, count: usize) -> Result<Batch, Error> {
        self.connection()?;
        let group = self.required_group()?;
        let mut logs = self.server.logs();
        let mut batch = Batch::default();
        for stream in self.streams.iter() {
            let mut group = logs.group(stream, group)?;
            group.claim(&self.consumer.name, min_idle, count, &mut batch);
        }
        batch.redelivered = !batch.is_empty();
        Ok(batch)
    }

    async fn others_have_pending(&self) -> Result<bool, Error> {
        self.connection()?;
        let group = self.required_group()?;
        let mut logs = self.server.logs();
        for stream in self.streams.iter() {
            let group = logs.group(stream, group)?;
            if group.others_have_pending(&self.consumer.name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Sink for MemoryStream {
    async fn send(&self, envelopes: &[Envelope]) -> Result<Vec<EntryId>, Error> {
        let entries = envelopes
            .iter()
            .map(|envelope| wire::write(envelope, self.limits))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(entries
            .into_iter()
            .map(|fields| self.publish_raw(fields))
            .collect())
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream")
            .field("streams", &self.streams)
            .field("group", &self.group)
            .field("consumer", &self.consumer.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_times_follow_the_paused_clock() {
        let dead = MemoryStream::new("orders").group("billing");
        dead.open().await.unwrap();
        dead.publish_raw([("data", "{}")]);
        assert_eq!(dead.read(10, None).await.unwrap().entries.len(), 1);
        let living = dead.clone().consumer("living");
        let minute = Duration::from_mins(1);

        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(living.claim(minute, 10).await.unwrap().is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(living.claim(minute, 10).await.unwrap().entries.len(), 1);
        // The claim is the start of a new idle time.
        assert!(dead.claim(minute, 10).await.unwrap().is_empty());
    }
}
