//! The reading side: one connection that may wait, and the walk through what was left pending.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::sync::{Mutex, Notify};

use super::{
    failure::Failure,
    progress::Progress,
    reply::{self, START},
    server::Server,
};
use crate::{error::Result, stream::Batch};

/// The pause between two tries to wake the reader, whose command may not have arrived yet.
const WAKE_PAUSE: Duration = Duration::from_millis(10);

/// Reads as one consumer of a group.
pub(super) struct Reader {
    server: Arc<Server>,
    streams: Arc<[Arc<str>]>,
    group: String,
    consumer: String,
    state: Mutex<State>,
    looks_back: AtomicBool,
    interrupted: Notify,
    turn: AtomicUsize,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    progress: Progress,
}

/// The connection, and how far it has come.
struct Link {
    connection: MultiplexedConnection,
    client_id: Option<i64>,
    walk: Walk,
}

/// Per stream, behind which id own pending entries are to be read; `None` once all are.
type Walk = Vec<Option<String>>;

impl Reader {
    pub(super) fn new(
        server: Arc<Server>,
        streams: Arc<[Arc<str>]>,
        group: String,
        consumer: String,
    ) -> Self {
        Self {
            server,
            streams,
            group,
            consumer,
            state: Mutex::default(),
            looks_back: AtomicBool::new(false),
            interrupted: Notify::new(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Lets the next read begin with this consumer's own pending entries.
    pub(super) fn look_back(&self) {
        self.looks_back.store(true, Ordering::Relaxed);
    }

    /// Ends a read that waits, or the next one that would.
    pub(super) fn interrupt(&self) {
        self.interrupted.notify_one();
    }

    /// Makes the group on every stream, from the stream's beginning.
    pub(super) async fn create_groups(&self) -> Result<()> {
        for stream in self.streams.iter() {
            self.create_group(stream).await?;
        }
        Ok(())
    }

    /// Makes the group on one stream; answers whether there was none.
    async fn create_group(&self, stream: &str) -> Result<bool> {
        let action = format!("creating group `{}` on stream `{stream}`", self.group);
        let mut command = cmd("XGROUP");
        command
            .arg("CREATE")
            .arg(stream)
            .arg(&self.group)
            .arg("0")
            .arg("MKSTREAM");
        match self.server.run::<Value>(&action, &command).await? {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(false),
            // A full server makes no group, not even one that is there; reading finds out which.
            Err(error) if error.code() == Some("OOM") => Ok(false),
            Err(error) => Err(self.server.error(&action, error)),
        }
    }

    /// Makes the groups again that are gone.
    async fn restore_groups(&self, progress: &mut Progress) -> Result<()> {
        for stream in self.streams.iter() {
            if self.create_group(stream).await? {
                progress.forget(stream);
                tracing::error!(
                    stream = &**stream,
                    group = self.group,
                    "the group was lost at the server and is made again, from the stream's beginning; entries that were lost with it are gone"
                );
            }
        }
        Ok(())
    }

    /// Reads; on any error, and if it is dropped, the connection is given up, and the next read
    /// makes another one and begins with what was left pending.
    pub(super) async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch> {
        let mut state = self.state.lock().await;
        let mut link = match state.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        if self.looks_back.swap(false, Ordering::Relaxed) {
            link.walk = self.walk();
        }
        let mut made_groups = false;
        loop {
            match self.read_with(&mut link, count, block).await {
                Ok(batch) => {
                    self.note(&batch, &mut state.progress);
                    state.link = Some(link);
                    return Ok(batch);
                }
                Err(error) if !made_groups && Failure::of(&error) == Failure::NoGroup => {
                    self.restore_groups(&mut state.progress).await?;
                    link.walk = self.walk();
                    made_groups = true;
                }
                Err(error) => return Err(self.server.error("reading", error)),
            }
        }
    }

    /// Tells when new entries are not behind those that were read before.
    fn note(&self, batch: &Batch, progress: &mut Progress) {
        if batch.redelivered {
            return;
        }
        for entry in &batch.entries {
            if progress.goes_back_to(&entry.id) {
                tracing::error!(
                    stream = &*entry.id.stream,
                    group = self.group,
                    entry_id = entry.id.id,
                    "the stream or its group has gone back at the server, as after a failover to a replica that was behind; entries come again, and some may be lost"
                );
            }
        }
    }

    async fn connect(&self) -> Result<Link> {
        let (connection, client_id) = self.server.reader().await?;
        Ok(Link {
            connection,
            client_id,
            walk: self.walk(),
        })
    }

    fn walk(&self) -> Walk {
        vec![Some(START.to_owned()); self.streams.len()]
    }

    async fn read_with(
        &self,
        link: &mut Link,
        count: usize,
        block: Option<Duration>,
    ) -> Result<Batch, RedisError> {
        link.connection
            .set_response_timeout(self.server.timeout_of(block));
        loop {
            let batch = self.read_pending(link, count).await?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            if link.walk.iter().all(Option::is_none) {
                break;
            }
        }
        self.read_new(link, count, block).await
    }

    /// One step of the walk through the own pending entries.
    async fn read_pending(&self, link: &mut Link, count: usize) -> Result<Batch, RedisError> {
        let ahead: Vec<(usize, String)> = (link.walk.iter().cloned().enumerate())
            .filter_map(|(place, cursor)| Some((place, cursor?)))
            .take(count.max(1))
            .collect();
        let mut batch = Batch::default();
        if ahead.is_empty() {
            return Ok(batch);
        }
        let command = self.command(share(count, ahead.len()), None, &ahead);
        let reply = command.query_async(&mut link.connection).await?;
        let mut streams = reply::streams(reply);
        for (place, _) in ahead {
            let (Some(stream), Some(cursor)) = (self.streams.get(place), link.walk.get_mut(place))
            else {
                continue;
            };
            let entries = streams
                .iter_mut()
                .find(|(name, _)| **name == **stream)
                .map(|(_, entries)| std::mem::take(entries));
            *cursor = reply::add_entries(&mut batch, stream, entries.unwrap_or_default());
        }
        batch.redelivered = !batch.is_empty();
        Ok(batch)
    }

    async fn read_new(
        &self,
        link: &mut Link,
        count: usize,
        block: Option<Duration>,
    ) -> Result<Batch, RedisError> {
        // With more streams than entries asked for, some have to wait for their turn.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let asked: Vec<(usize, String)> = (0..self.streams.len().min(count.max(1)))
            .map(|place| {
                (
                    turn.wrapping_add(place) % self.streams.len(),
                    ">".to_owned(),
                )
            })
            .collect();
        let command = self.command(share(count, asked.len()), block, &asked);
        let reply = {
            let query = command.query_async(&mut link.connection);
            match (block, link.client_id) {
                (Some(_), Some(client_id)) => tokio::select! {
                    biased;
                    reply = query => reply?,
                    never = self.wake_when_interrupted(client_id) => match never {},
                },
                _ => query.await?,
            }
        };
        let mut batch = Batch::default();
        for (name, entries) in reply::streams(reply) {
            if let Some(stream) = self.streams.iter().find(|stream| ***stream == *name) {
                reply::add_entries(&mut batch, stream, entries);
            }
        }
        Ok(batch)
    }

    fn command(&self, count: usize, block: Option<Duration>, from: &[(usize, String)]) -> Cmd {
        let mut command = cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.group)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(count);
        if let Some(block) = block {
            // Zero would wait for ever.
            command.arg("BLOCK").arg(millis(block).max(1));
        }
        command.arg("STREAMS");
        for stream in from
            .iter()
            .filter_map(|(place, _)| self.streams.get(*place))
        {
            command.arg(&**stream);
        }
        for (_, id) in from {
            command.arg(id);
        }
        command
    }

    /// Waits for an interruption, then wakes the reader at the server.
    async fn wake_when_interrupted(&self, client_id: i64) -> Infallible {
        self.interrupted.notified().await;
        let mut command = cmd("CLIENT");
        command.arg("UNBLOCK").arg(client_id);
        // A reader that cannot be woken comes back when its wait is over.
        while let Ok(Ok(0)) = self.server.run::<i64>("waking the reader", &command).await {
            tokio::time::sleep(WAKE_PAUSE).await;
        }
        std::future::pending().await
    }
}

/// What each of the asked streams may give of a batch.
fn share(count: usize, streams: usize) -> usize {
    count.checked_div(streams).unwrap_or(count).max(1)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
