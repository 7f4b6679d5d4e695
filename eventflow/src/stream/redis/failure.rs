//! What an error of Redis means: whether it passes, and whether its connection is still good.

use std::{error::Error as StdError, io, sync::Arc};

use deadpool_redis::redis::{ErrorKind as RedisErrorKind, RedisError, ServerErrorKind};

use crate::error::ErrorKind;

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The stream or its group is gone: make it again.
    NoGroup,
    /// It passes by itself, but this connection leads nowhere.
    Transient,
    /// It passes by itself; the connection is good.
    Busy,
    /// The server does not know the user or the password.
    Credentials,
    /// The user may not do this.
    Permission,
    /// A key holds something that is no stream.
    WrongType,
    /// The server is a node of a cluster, and the keys are not all in one slot of it.
    Cluster,
    /// An entry is too large for the server.
    TooLarge,
    /// The server's certificate is not trusted.
    Certificate,
    /// Anything else that does not pass by itself.
    Permanent,
}

impl Failure {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            RedisErrorKind::Io if is_bad_certificate(error) => Self::Certificate,
            // A reply that cannot be parsed says that the connection is out of step.
            RedisErrorKind::Io | RedisErrorKind::Parse => Self::Transient,
            RedisErrorKind::AuthenticationFailed => Self::Credentials,
            RedisErrorKind::Server(kind) => Self::of_server(kind, error),
            RedisErrorKind::Extension => Self::of_code(&code(error)),
            _ => Self::Permanent,
        }
    }

    fn of_server(kind: ServerErrorKind, error: &RedisError) -> Self {
        match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain => Self::Transient,
            ServerErrorKind::ExecAbort => Self::of_aborted(error),
            ServerErrorKind::NoPerm => Self::Permission,
            ServerErrorKind::CrossSlot | ServerErrorKind::Moved => Self::Cluster,
            ServerErrorKind::ResponseError
                if error.to_string().contains("max number of clients") =>
            {
                Self::Transient
            }
            _ if is_too_large(error) => Self::TooLarge,
            _ => Self::Permanent,
        }
    }

    /// What a transaction was discarded for: an error of one of its commands, or of its end, which then
    /// follows in the same text.
    fn of_aborted(error: &RedisError) -> Self {
        let errors = error.clone().into_server_errors().unwrap_or_default();
        let of_command = errors
            .iter()
            .map(|(_, error)| error)
            .find(|error| error.kind() != Some(ServerErrorKind::ExecAbort));
        if let Some(of_command) = of_command {
            return match of_command.kind() {
                Some(kind) => Self::of_server(kind, error),
                None => Self::of_code(of_command.code()),
            };
        }
        let text = error.to_string();
        let reason = text.rsplit_once("because of: ");
        let code = reason.and_then(|(_, reason)| reason.split(' ').next());
        match code.unwrap_or_default() {
            "LOADING" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" => Self::Transient,
            code => Self::of_code(code),
        }
    }

    fn of_code(code: &str) -> Self {
        match code {
            "NOGROUP" | "UNBLOCKED" => Self::NoGroup,
            "OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" => Self::Busy,
            "WRONGTYPE" => Self::WrongType,
            "NOAUTH" | "WRONGPASS" => Self::Credentials,
            _ => Self::Permanent,
        }
    }

    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::NoGroup | Self::Transient | Self::Busy)
    }

    /// Whether the connection is not to be used again.
    pub(super) fn breaks_connection(self) -> bool {
        matches!(self, Self::Transient | Self::TooLarge)
    }

    /// What it is to those who decide.
    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::TooLarge => ErrorKind::Refused,
            _ => ErrorKind::Stream,
        }
    }

    /// What to do, as the end of a message.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Credentials => ": it refuses the URL's user or password",
            Self::Permission => ": the user lacks a permission",
            Self::WrongType => {
                ": a key holds something other than a stream; name another stream, or delete the key"
            }
            Self::Cluster => {
                ": a Redis Cluster gives one reader the keys of one slot; connect to the node that holds it, and name the shard with `shards`"
            }
            Self::TooLarge => ": an entry is larger than the server takes",
            Self::Certificate => ": its certificate is not one to trust",
            Self::NoGroup | Self::Transient | Self::Busy | Self::Permanent => "",
        }
    }
}

/// Whether a connection broke that a command was sent on. No answer in time is no such thing.
pub(super) fn is_disconnected(error: &RedisError) -> bool {
    error.kind() == RedisErrorKind::Io
        && !error.is_timeout()
        && !error.is_connection_refusal()
        && !is_bad_certificate(error)
}

/// The two words of a server for an entry that is too large: one before it closes the connection, one of
/// `XADD`. They have no code of their own.
fn is_too_large(error: &RedisError) -> bool {
    let text = error.to_string();
    text.contains("invalid bulk length") || text.contains("too large to be stored")
}

/// The server's word for an error; in a pipeline, the first one's.
fn code(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error
            .clone()
            .into_server_errors()
            .and_then(|errors| Some(errors.first()?.1.code().to_owned()))
            .unwrap_or_default(),
    }
}

/// The server's certificate is not one to trust: no later try changes that.
fn is_bad_certificate(error: &RedisError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return matches!(error, rustls::Error::InvalidCertificate(_));
        }
        cause = wrapped(error).or_else(|| error.source());
    }
    false
}

/// What a wrapper holds that leaves it out of its own chain of sources.
fn wrapped<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**shared);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}
