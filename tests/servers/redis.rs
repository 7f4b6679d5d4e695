//! A private Redis server that ends with the test.

use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use deadpool_redis::redis::{self, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::process::{Process, Signal, free_port};

const START_DEADLINE: Duration = Duration::from_secs(10);

/// A Redis server on a free port, with its files in a temporary folder.
///
/// Every command is on disk before it is answered, so that a restart loses nothing.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    process: Process,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with more arguments on its command line.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let folder = folder();
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        Self::start_in(folder, arguments, "--port").await
    }

    /// Starts a server that speaks TLS only; its authority is
    /// [`root_certificate`](Self::root_certificate).
    pub async fn start_with_tls() -> Self {
        let folder = folder();
        make_certificates(folder.path());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let arguments = vec![
            "--tls-cert-file".to_owned(),
            file("server.crt"),
            "--tls-key-file".to_owned(),
            file("server.key"),
            "--tls-ca-cert-file".to_owned(),
            file("ca.crt"),
            "--tls-auth-clients".to_owned(),
            "no".to_owned(),
            "--port".to_owned(),
            "0".to_owned(),
        ];
        Self::start_in(folder, arguments, "--tls-port").await
    }

    async fn start_in(folder: TempDir, arguments: Vec<String>, port_option: &str) -> Self {
        let port = free_port();
        let mut all = vec![port_option.to_owned(), port.to_string()];
        all.extend(arguments);
        let process = start(folder.path(), port, &all).await;
        Self {
            port,
            arguments: all,
            process,
            folder,
        }
    }

    /// The server's URL, for its default user and database.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that signed the certificate of a server with TLS, in PEM.
    pub fn root_certificate(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("ca.crt")).expect("the server was started with TLS")
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts the server as an operator would.
    pub async fn restart(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.exit(START_DEADLINE).await;
        self.start_again().await;
    }

    /// Starts the server once more after a kill, on the same port and with what it had stored.
    pub async fn start_again(&mut self) {
        self.process = start(self.folder.path(), self.port, &self.arguments).await;
    }

    /// Stops the server as if its machine stood still; its connections stay open.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets the server go on after a pause.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Runs a command as the default user.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, arguments) = words.split_first().expect("a command has a name");
        redis::cmd(name)
            .arg(arguments)
            .query_async(&mut self.connection().await)
            .await
            .unwrap()
    }

    /// A connection as the default user.
    pub async fn connection(&self) -> MultiplexedConnection {
        redis::Client::open(self.url())
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap()
    }
}

async fn start(folder: &Path, port: u16, arguments: &[String]) -> Process {
    let log = folder.join("redis.log");
    let before = std::fs::read_to_string(&log).unwrap_or_default().len();
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .arg("--dir")
        .arg(folder)
        .arg("--logfile")
        .arg(&log)
        .args(arguments)
        .stdout(Stdio::null());
    let mut process = Process::start(&mut command, folder).unwrap_or_else(|error| {
        panic!("redis-server cannot be started: {error}; install it, on Debian with `apt-get install redis-server`")
    });
    wait_until_ready(&mut process, port, &log, before).await;
    process
}

/// The log also tells of earlier starts, in its first `before` bytes.
async fn wait_until_ready(process: &mut Process, port: u16, log: &Path, before: usize) {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let ended = process.ended();
        let text = std::fs::read_to_string(log).unwrap_or_default();
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "redis-server did not start ({ended:?}):\n{text}"
        );
        let since = text.get(before..).unwrap_or_default();
        let loaded = since.contains("Ready to accept connections");
        if loaded && TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("eventflow-redis-")
        .tempdir()
        .unwrap()
}

/// Makes an authority and a certificate for `localhost` that it has signed.
fn make_certificates(folder: &Path) {
    let make = |words: &str| {
        let output = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(words.split(' '))
            .output()
            .unwrap_or_else(|error| {
                panic!("openssl cannot be started: {error}; install it, on Debian with `apt-get install openssl`")
            });
        assert!(output.status.success(), "{output:?}");
    };
    make("-subj /CN=authority -keyout ca.key -out ca.crt");
    make(
        "-subj /CN=localhost -keyout server.key -out server.crt -CA ca.crt -CAkey ca.key \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=CA:FALSE",
    );
}
