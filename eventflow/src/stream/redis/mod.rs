//! Redis Streams: groups of consumers at a server.
//!
//! What an error means is [`failure`]'s part, the connections are [`server`]'s. Every call tries
//! once; trying again until the server is back is its caller's.

mod builder;
mod failure;
mod maintenance;
mod progress;
mod publish;
mod reader;
mod reply;
mod server;
mod streams;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use deadpool_redis::redis::{Pipeline, Value, cmd};
use tokio::sync::Mutex;

pub use self::builder::RedisStreamBuilder;
use self::{
    failure::Failure,
    maintenance::Maintenance,
    reader::{Reader, millis},
    reply::START,
    server::Server,
    streams::Target,
};
use super::{Batch, EntryId, Sink, Source};
use crate::{
    envelope::{Envelope, wire},
    error::{Error, ErrorKind, Result},
};

/// Redis Streams, read as one consumer of a group, or published to.
///
/// Works with Redis 6.2 and later and what speaks as it does. A clone is the same consumer.
///
/// The URL is `redis://user:password@host:port/database`, or `rediss://` for TLS; all but the host
/// may be left out. Errors and logs never show it.
///
/// # Examples
/// ```no_run
/// use eventflow::stream::RedisStream;
///
/// # async fn connect() -> eventflow::Result<()> {
/// let stream = RedisStream::builder("redis://localhost")
///     .stream("orders")
///     .group("billing")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStream {
    inner: Arc<Inner>,
}

struct Inner {
    server: Arc<Server>,
    streams: Arc<[Arc<str>]>,
    publish_to: Option<Target>,
    reader: Option<Reader>,
    maintenance: Maintenance,
    /// Per stream, where the walk for entries to claim goes on.
    claims: Mutex<Vec<String>>,
    limits: wire::Limits,
}

impl RedisStream {
    /// Starts building a stream on the server of this URL.
    pub fn builder(url: impl Into<String>) -> RedisStreamBuilder {
        RedisStreamBuilder::new(url.into())
    }

    fn new(
        server: Server,
        streams: Arc<[Arc<str>]>,
        publish_to: Option<Target>,
        group: Option<String>,
        consumer: String,
        maintenance: Maintenance,
        limits: wire::Limits,
    ) -> Self {
        let server = Arc::new(server);
        let reader = group
            .map(|group| Reader::new(Arc::clone(&server), Arc::clone(&streams), group, consumer));
        let claims = vec![START.to_owned(); streams.len()];
        Self {
            inner: Arc::new(Inner {
                server,
                streams,
                publish_to,
                reader,
                maintenance,
                claims: Mutex::new(claims),
                limits,
            }),
        }
    }

    /// The name under which this consumer reads; `None` if it only publishes.
    pub fn consumer(&self) -> Option<&str> {
        Some(self.inner.reader.as_ref()?.consumer())
    }

    fn reader(&self) -> Result<&Reader> {
        self.inner.reader.as_ref().ok_or_else(|| {
            Error::configuration("this stream only publishes; name the group with `group`")
        })
    }
}

impl Inner {
    /// Claims from one stream until the batch has `count` or the walk is at its end.
    async fn claim_from(
        &self,
        reader: &Reader,
        stream: &Arc<str>,
        cursor: &mut String,
        min_idle: Duration,
        count: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        let action = format!("claiming pending entries of stream `{stream}`");
        loop {
            let room = count.saturating_sub(batch.entries.len());
            if room == 0 {
                return Ok(());
            }
            let mut command = cmd("XAUTOCLAIM");
            command
                .arg(&**stream)
                .arg(reader.group())
                .arg(reader.consumer())
                .arg(millis(min_idle))
                .arg(&*cursor)
                .arg("COUNT")
                .arg(room);
            let reply = match self.server.run::<Value>(&action, &command).await? {
                Ok(reply) => reply,
                // The reader makes the group again; there is nothing to claim until then.
                Err(error) if Failure::of(&error) == Failure::NoGroup => return Ok(()),
                Err(error) => return Err(self.server.error(&action, error)),
            };
            let claimed = reply::claimed(reply).ok_or_else(|| {
                Error::new(
                    ErrorKind::Stream,
                    format!("{action} gave an unknown reply; Redis 6.2 or later is needed"),
                )
            })?;
            reply::add_entries(batch, stream, claimed.entries);
            batch
                .trimmed
                .extend(claimed.trimmed.into_iter().map(|id| EntryId {
                    stream: Arc::clone(stream),
                    id,
                }));
            if claimed.hides_trimmed {
                // They are this consumer's now, and its own pending entries do have names.
                reader.look_back();
            }
            *cursor = claimed.cursor;
            if cursor == START {
                return Ok(());
            }
        }
    }
}

impl Source for RedisStream {
    fn group(&self) -> &str {
        self.inner.reader.as_ref().map_or("", Reader::group)
    }

    fn streams(&self) -> Vec<Arc<str>> {
        self.inner.streams.to_vec()
    }

    async fn open(&self) -> Result<()> {
        let reader = self.reader()?;
        for cursor in self.inner.claims.lock().await.iter_mut() {
            START.clone_into(cursor);
        }
        reader.look_back();
        reader.create_groups().await
    }

    async fn read(&self, count: usize, block: Option<Duration>) -> Result<Batch> {
        self.reader()?.read(count, block).await
    }

    async fn interrupt(&self) {
        if let Some(reader) = &self.inner.reader {
            reader.interrupt();
        }
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<()> {
        let reader = self.reader()?;
        let mut by_stream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for id in ids {
            by_stream.entry(&id.stream).or_default().push(&id.id);
        }
        if by_stream.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::new();
        for (stream, ids) in by_stream {
            commands
                .cmd("XACK")
                .arg(stream)
                .arg(reader.group())
                .arg(ids);
        }
        let _counts: Vec<i64> = self
            .inner
            .server
            .run_all("acknowledging entries", &commands)
            .await?;
        Ok(())
    }

    async fn claim(&self, min_idle: Duration, count: usize) -> Result<Batch> {
        let reader = self.reader()?;
        let mut cursors = self.inner.claims.lock().await;
        let mut batch = Batch::default();
        for (stream, cursor) in self.inner.streams.iter().zip(cursors.iter_mut()) {
            let claimed = self
                .inner
                .claim_from(reader, stream, cursor, min_idle, count, &mut batch)
                .await;
            if let Err(error) = claimed {
                // What an answer that did not come has claimed is among the own pending entries.
                reader.look_back();
                if batch.is_empty() {
                    return Err(error);
                }
                // What is claimed is to be stored; the next claim finds the error again.
                break;
            }
        }
        batch.redelivered = !batch.is_empty();
        Ok(batch)
    }

    async fn maintain(&self) -> Result<()> {
        let Inner {
            server,
            streams,
            maintenance,
            ..
        } = &*self.inner;
        maintenance.run(server, self.reader()?, streams).await
    }

    async fn others_have_pending(&self) -> Result<bool> {
        let reader = self.reader()?;
        let mut commands = Pipeline::new();
        for stream in self.inner.streams.iter() {
            commands.cmd("XPENDING").arg(&**stream).arg(reader.group());
        }
        let action = "looking at pending entries";
        let summaries: Vec<Value> = self.inner.server.run_all(action, &commands).await?;
        let consumer = reader.consumer();
        let mut summaries = summaries.into_iter();
        Ok(summaries.any(|summary| reply::others_have_pending(summary, consumer)))
    }
}

impl Sink for RedisStream {
    async fn send(&self, envelopes: &[Envelope]) -> Result<Vec<EntryId>> {
        let target = self.inner.publish_to.as_ref().ok_or_else(|| {
            Error::configuration(
                "with several streams, name the one to publish to with `publish_to`",
            )
        })?;
        publish::publish(&self.inner.server, target, envelopes, self.inner.limits).await
    }
}

impl fmt::Debug for RedisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStream")
            .field("server", &self.inner.server)
            .field("streams", &self.inner.streams)
            .field("group", &self.inner.reader.as_ref().map(Reader::group))
            .field("consumer", &self.consumer())
            .finish_non_exhaustive()
    }
}
