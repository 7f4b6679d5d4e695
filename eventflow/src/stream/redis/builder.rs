//! What a Redis stream needs to know before it connects.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    RedisStream,
    server::{Server, ServerSettings},
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
    streams: Vec<Arc<str>>,
    publish_to: Option<Arc<str>>,
    group: Option<String>,
    consumer: ConsumerName,
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
            streams: Vec::new(),
            publish_to: None,
            group: None,
            consumer: ConsumerName::Prefix("eventflow".to_owned()),
            limits: wire::Limits::default(),
        }
    }

    /// Adds a stream: a key of the database. At least one is needed.
    pub fn stream(mut self, stream: impl Into<Arc<str>>) -> Self {
        let stream = stream.into();
        if !self.streams.contains(&stream) {
            self.streams.push(stream);
        }
        self
    }

    /// Names the group that reads. Without one the stream only publishes.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Names the stream that is published to. Default: the stream, if there is only one.
    pub fn publish_to(mut self, stream: impl Into<Arc<str>>) -> Self {
        self.publish_to = Some(stream.into());
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
        if self.streams.is_empty() {
            return Err(Error::configuration(
                "no stream is named; name at least one with `stream`",
            ));
        }
        for stream in self.streams.iter().chain(&self.publish_to) {
            check_name("stream", stream)?;
        }
        if let Some(group) = &self.group {
            check_name("group", group)?;
        }
        let publish_to = match (self.publish_to, self.streams.as_slice()) {
            (Some(stream), _) => Some(stream),
            (None, [stream]) => Some(Arc::clone(stream)),
            (None, _) => None,
        };
        let consumer = self.consumer.name()?;
        let server = Server::new(&self.server)?;
        server.ping().await?;
        Ok(RedisStream::new(
            server,
            self.streams.into(),
            publish_to,
            self.group,
            consumer,
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
