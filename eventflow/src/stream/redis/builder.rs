//! What a Redis stream needs to know before it connects.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    RedisStream,
    maintenance::Maintenance,
    server::{Server, ServerSettings},
    streams::{Streams, Target},
};
use crate::{
    envelope::wire,
    error::{Error, Result},
};

/// How many characters of the host's name go into a consumer's name.
const HOST_CHARS: usize = 63;

/// Builds a [`RedisStream`].
#[must_use = "call `connect` to get the stream"]
pub struct RedisStreamBuilder {
    server: ServerSettings,
    streams: Streams,
    group: Option<String>,
    consumer: ConsumerName,
    maintenance: Maintenance,
    limits: wire::Limits,
}

/// Who reads: given by the user, or made up with a unique part.
enum ConsumerName {
    Prefix(String),
    Fixed(String),
}

impl RedisStreamBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            server: ServerSettings::new(url),
            streams: Streams::default(),
            group: None,
            consumer: ConsumerName::Prefix("eventflow".to_owned()),
            maintenance: Maintenance::default(),
            limits: wire::Limits::default(),
        }
    }

    /// Adds a stream: a key of the database. At least one is needed.
    pub fn stream(mut self, stream: impl Into<Arc<str>>) -> Self {
        self.streams.add(stream.into(), None);
        self
    }

    /// Adds a stream in so many shards, the keys `<stream>:{0}`, `<stream>:{1}` and so on: all are read
    /// unless [`shards`](Self::shards) names some, and an event is published to its aggregate's.
    ///
    /// Who publishes and who reads must agree on the number, which cannot be changed later;
    /// [`Shards`](crate::stream::Shards) tells which shard an event is in, how to choose the number and
    /// how to move to another.
    ///
    /// # Redis Cluster
    /// A stream has connections to one server and follows no redirects. In a cluster one read can ask for
    /// the keys of one slot only, and each shard has a slot of its own: there, a consumer reads one shard
    /// (of any number of sharded streams: `orders:{3}` and `payments:{3}` have one slot), from the node
    /// that holds it. Publishing works for the shards that the node holds; to others, and after a slot has
    /// moved, the server's `MOVED` is answered as an error. A service that publishes to all shards needs a
    /// proxy in front of the cluster that knows where keys are.
    ///
    /// # Examples
    /// ```no_run
    /// use eventflow::stream::RedisStream;
    ///
    /// # async fn connect() -> eventflow::Result<()> {
    /// let stream = RedisStream::builder("redis://localhost")
    ///     .sharded("orders", 16)
    ///     .group("billing")
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sharded(mut self, stream: impl Into<Arc<str>>, shards: u16) -> Self {
        self.streams.add(stream.into(), Some(shards));
        self
    }

    /// Reads only these shards, counted from 0, of each sharded stream. Default: all.
    ///
    /// Each shard needs a reader somewhere. Publishing goes to all shards whichever are read.
    pub fn shards(mut self, shards: impl IntoIterator<Item = u16>) -> Self {
        self.streams.read_shards = Some(shards.into_iter().collect());
        self
    }

    /// Names the group that reads. Without one the stream only publishes.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Names the stream that is published to; a sharded one by its name without a shard. Default: the
    /// stream, if there is only one.
    ///
    /// The user needs `MULTI`, `XADD` and `EXEC`: of the events that are sent at once, 256 at most, a stream
    /// or shard takes all or none, so that an aggregate's events stay in order also if they have to be
    /// published again.
    pub fn publish_to(mut self, stream: impl Into<Arc<str>>) -> Self {
        self.streams.publish_to = Some(stream.into());
        self
    }

    /// Begins the consumer's name, as `<prefix>-<host>-<unique part>`. Default: `eventflow`.
    pub fn consumer_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.consumer = ConsumerName::Prefix(prefix.into());
        self
    }

    /// Fixes the consumer's whole name.
    ///
    /// A process that starts under the name of its predecessor reads at once what that one had left
    /// pending, instead of when it has been idle for long enough. No two processes may share a
    /// name at the same time.
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = ConsumerName::Fixed(name.into());
        self
    }

    /// Trims the streams of entries that every group has acknowledged. Default: off; streams grow until
    /// someone else trims them.
    ///
    /// Kept are the entries that some group has pending or has not read, and all behind them. A group
    /// that nobody reads any more keeps everything: end it with `XGROUP DESTROY`. A group that is made
    /// later begins with what is left then. About a hundred acknowledged entries are left, for the server
    /// frees whole blocks.
    ///
    /// Done by each consumer about once a minute, with a Lua script, so that no group, read or
    /// acknowledgement comes in between: the user needs `EVAL`, `XINFO`, `XPENDING` and `XTRIM`.
    pub fn trim_acknowledged(mut self) -> Self {
        self.maintenance.trims = true;
        self
    }

    /// After which idle time the names of other consumers with nothing pending are removed from the group;
    /// `None` keeps them. Default: 1 h.
    ///
    /// Each start of a process leaves its name behind otherwise. Done by each consumer about once a
    /// minute, which also marks its own name as in use: choose several minutes at least. With a Lua script,
    /// so that nothing becomes pending in between: the user needs `EVAL`, `XINFO` and `XGROUP`. A consumer
    /// that is not one of EventFlow's and waits on a quiet stream may lose its name (before Redis 7.2 all
    /// of that time counts as idle); the server gives it back with the next entry, and nothing is lost.
    pub fn remove_consumers_after(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.maintenance.removes_after = idle.into();
        self
    }

    /// Trusts only servers with a certificate of these authorities, in PEM, for `rediss://`.
    ///
    /// Default: the authorities that Mozilla trusts.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.server.root_certificate = Some(pem.into());
        self
    }

    /// How many connections there may be beside the reader's. Default: 8; at least 1.
    ///
    /// Each acknowledging, claiming or publishing call uses one while it runs; further calls wait.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.server.pool_size = connections.max(1);
        self
    }

    /// How long a command may take, and a connection may take to be made. Default: 10 s.
    ///
    /// A read that waits for entries may take twice its waiting time longer.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.server.command_timeout = timeout;
        self
    }

    /// Publishes within these limits. Default: those that a consumer reads within unless told
    /// otherwise.
    pub fn limits(mut self, limits: wire::Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Connects, and checks that the server answers.
    ///
    /// # Errors
    /// - [`Configuration`](crate::ErrorKind::Configuration) if the URL, a name or the certificate is
    ///   not one.
    /// - [`Stream`](crate::ErrorKind::Stream) if the server cannot be reached, which is transient,
    ///   or refuses the credentials.
    pub async fn connect(self) -> Result<RedisStream> {
        let (keys, target) = self.streams.resolve()?;
        for key in keys.iter().chain(target.as_ref().map(Target::name)) {
            check_name("stream", key)?;
        }
        if let Some(group) = &self.group {
            check_name("group", group)?;
        }
        let consumer = self.consumer.name()?;
        let server = Server::new(&self.server)?;
        server.ping().await?;
        Ok(RedisStream::new(
            server,
            keys,
            target,
            self.group,
            consumer,
            self.maintenance,
            self.limits,
        ))
    }
}

impl ConsumerName {
    fn name(self) -> Result<String> {
        let name = match self {
            Self::Fixed(name) => name,
            Self::Prefix(prefix) => {
                let host = hostname::get().unwrap_or_default();
                let host: String = host
                    .to_string_lossy()
                    .chars()
                    .filter(|character| {
                        character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
                    })
                    .take(HOST_CHARS)
                    .collect();
                format!("{prefix}-{host}-{:08x}", fastrand::u32(..))
            }
        };
        check_name("consumer", &name)?;
        Ok(name)
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::configuration(format!("the {what}'s name is empty")));
    }
    if name.chars().any(char::is_control) || name.chars().count() > wire::MAX_ID_CHARS {
        return Err(Error::configuration(format!(
            "the {what}'s name {name:?} is too long or holds control characters; use at most {} printable ones",
            wire::MAX_ID_CHARS
        )));
    }
    Ok(())
}

/// Leaves the URL out: it may hold a password.
impl fmt::Debug for RedisStreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamBuilder")
            .field("streams", &self.streams)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
