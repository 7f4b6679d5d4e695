//! The connections to the server: a pool for short commands, and readers of their own.

use std::{fmt, time::Duration};

use deadpool_redis::{
    Connection, Manager, Pool, PoolError, Runtime,
    redis::{
        AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
        Pipeline, RedisError, RedisResult, TlsCertificates,
        aio::MultiplexedConnection,
        cmd,
        io::tcp::{TcpSettings, socket2::TcpKeepalive},
    },
};

use super::failure::{self, Failure};
use crate::error::{Error, ErrorKind, Result};

/// How long a connection is idle before it is probed: less than what is between two hosts forgets one in.
const PROBED_AFTER: Duration = Duration::from_secs(30);

/// Between two such probes.
const PROBED_EVERY: Duration = Duration::from_secs(10);

/// How to reach the server.
pub(super) struct ServerSettings {
    url: String,
    pub(super) root_certificate: Option<Vec<u8>>,
    pub(super) pool_size: usize,
    pub(super) command_timeout: Duration,
}

impl ServerSettings {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            root_certificate: None,
            pool_size: 8,
            command_timeout: Duration::from_secs(10),
        }
    }
}

/// A server that commands go to.
pub(super) struct Server {
    client: Client,
    pool: Pool,
    config: AsyncConnectionConfig,
    command_timeout: Duration,
}

impl Server {
    /// Prepares connections; makes none.
    pub(super) fn new(settings: &ServerSettings) -> Result<Self> {
        let client = client(settings)?;
        // The default response timeout of 500 ms cuts large pipelines, and their effects are then
        // unknown.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.command_timeout))
            .set_response_timeout(Some(settings.command_timeout));
        let manager =
            Manager::new_with_config(client.get_connection_info().clone(), config.clone())
                .map_err(|error| {
                    Error::configuration("the Redis URL cannot be used").with_source(error)
                })?;
        let timeout = Some(settings.command_timeout);
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .recycle_timeout(timeout)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                Error::configuration("the Redis pool cannot be built").with_source(error)
            })?;
        Ok(Self {
            client,
            pool,
            config,
            command_timeout: settings.command_timeout,
        })
    }

    /// Checks that the server answers.
    pub(super) async fn ping(&self) -> Result<()> {
        self.run("connecting", &cmd("PING"))
            .await?
            .map_err(|error| self.error("connecting", error))
    }

    /// Makes a connection for a reader; answers it with its id, if the user may know that.
    pub(super) async fn reader(&self) -> Result<(MultiplexedConnection, Option<i64>)> {
        let action = "connecting a reader";
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await
            .map_err(|error| self.error(action, error))?;
        match cmd("CLIENT").arg("ID").query_async(&mut connection).await {
            Ok(id) => Ok((connection, Some(id))),
            Err(error) if Failure::of(&error) == Failure::Permission => Ok((connection, None)),
            Err(error) => Err(self.error(action, error)),
        }
    }

    /// The response timeout that fits a wait of `block`.
    ///
    /// Some servers start the wait anew when another consumer takes the entry, so it may last
    /// nearly twice as long.
    pub(super) fn timeout_of(&self, block: Option<Duration>) -> Duration {
        self.command_timeout + block.unwrap_or_default() * 2
    }

    /// Runs a short command. The outer error is that no connection could be had.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        action: &str,
        command: &Cmd,
    ) -> Result<Result<T, RedisError>> {
        let mut connection = self.connection(action).await?;
        let answer = command.query_async(&mut connection).await;
        Ok(keep_or_drop(connection, answer))
    }

    /// Runs a pipeline of short commands.
    pub(super) async fn run_all<T: FromRedisValue>(
        &self,
        action: &str,
        commands: &Pipeline,
    ) -> Result<T> {
        let mut connection = self.connection(action).await?;
        let answer = commands.query_async(&mut connection).await;
        keep_or_drop(connection, answer).map_err(|error| {
            let disconnected = failure::is_disconnected(&error);
            self.error(action, error).disconnected(disconnected)
        })
    }

    /// The error of an action that the server refused or did not answer.
    pub(super) fn error(&self, action: &str, error: RedisError) -> Error {
        let failure = Failure::of(&error);
        let address = self.client.get_connection_info().addr();
        Error::new(
            failure.kind(),
            format!(
                "{action} failed at the Redis server {address}{}",
                failure.hint()
            ),
        )
        .transient(failure.is_transient())
        .with_source(error)
    }

    async fn connection(&self, action: &str) -> Result<Connection> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => self.error(action, error),
            error => {
                let address = self.client.get_connection_info().addr();
                Error::new(
                    ErrorKind::Stream,
                    format!("{action} found no connection to the Redis server {address}"),
                )
                .transient(true)
                .with_source(error)
            }
        })
    }
}

/// Drops a connection that leads nowhere: a demoted master would pass the pool's own check.
fn keep_or_drop<T>(connection: Connection, answer: Result<T, RedisError>) -> Result<T, RedisError> {
    if let Err(error) = &answer
        && Failure::of(error).breaks_connection()
    {
        drop(Connection::take(connection));
    }
    answer
}

fn client(settings: &ServerSettings) -> Result<Client> {
    // The parser's own errors are left out: the URL may hold a password.
    let bad_url = |_: RedisError| {
        Error::configuration(
            "the Redis URL cannot be read; write `redis://user:password@host:port/database`, or `rediss://` for TLS",
        )
    };
    let url = settings.url.as_str();
    if url.starts_with("rediss:") {
        install_tls_provider();
    }
    let Some(pem) = &settings.root_certificate else {
        return connection_info(url).and_then(Client::open).map_err(bad_url);
    };
    // Read apart from the certificate, so that the error is about one of them.
    let info = connection_info(url).map_err(bad_url)?;
    let bad_certificate = || {
        Error::configuration(
            "the root certificate cannot be used; give it in PEM, with a `rediss://` URL",
        )
    };
    // Text without any certificate would pass, and no server be trusted.
    if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(bad_certificate());
    }
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(pem.clone()),
    };
    Client::build_with_tls(info, certificates).map_err(|error| bad_certificate().with_source(error))
}

/// What is sent does not wait for the answer to what was sent before it. That commands are not answered
/// their deadlines tell; probes are for connections with nothing to do.
fn connection_info(url: &str) -> RedisResult<ConnectionInfo> {
    let probes = TcpKeepalive::new()
        .with_time(PROBED_AFTER)
        .with_interval(PROBED_EVERY);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(probes);
    Ok(url.into_connection_info()?.set_tcp_settings(settings))
}

/// Gives rustls a provider unless the program has chosen one: with two of them compiled in, it
/// refuses to choose itself.
fn install_tls_provider() {
    use rustls::crypto::{CryptoProvider, ring};

    if CryptoProvider::get_default().is_none()
        && ring::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread has just installed the TLS provider");
    }
}

/// Prints the address only.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field(
                "address",
                &self.client.get_connection_info().addr().to_string(),
            )
            .finish_non_exhaustive()
    }
}
