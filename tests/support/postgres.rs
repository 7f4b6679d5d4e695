//! Private Postgres servers that end with the tests, and a fresh database for each test.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::process::{free_port, watchdog};

const START_DEADLINE: Duration = Duration::from_mins(1);

/// A fresh database on the server that all tests of this process share.
#[derive(Debug)]
pub struct Database {
    url: String,
}

impl Database {
    /// Creates a database.
    pub async fn create() -> Self {
        static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
        let server = SHARED.get_or_init(PostgresServer::start).await;
        Self {
            url: server.create_database().await,
        }
    }

    /// The database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A Postgres server on a free port, with its files in a temporary folder.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    binaries: PathBuf,
    process: Process,
    folder: TempDir,
}

impl PostgresServer {
    /// Initialises and starts a server.
    pub async fn start() -> Self {
        let binaries = binaries();
        let folder = tempfile::Builder::new()
            .prefix("eventflow-postgres-")
            .tempdir()
            .unwrap();
        if let Some(user) = unprivileged_user() {
            chown(folder.path(), Some(user), None).unwrap();
        }
        let output = command(&binaries.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--pgdata"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let port = free_port();
        let process = Process::start(&binaries, folder.path(), port).await;
        Self {
            port,
            binaries,
            process,
            folder,
        }
    }

    /// The URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database and answers its URL.
    pub async fn create_database(&self) -> String {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        self.url(&name)
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server once more after a kill, on the same port and with what it had stored.
    pub async fn start_again(&mut self) {
        self.process = Process::start(&self.binaries, self.folder.path(), self.port).await;
    }
}

/// A server's process, and a second one that outlives the test to end it.
#[derive(Debug)]
struct Process {
    server: Child,
    watchdog: Child,
}

impl Process {
    async fn start(binaries: &Path, folder: &Path, port: u16) -> Self {
        let log = std::fs::File::create(folder.join("postgres.log")).unwrap();
        let server = command(&binaries.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", "max_connections=500"])
            // A test kills processes, not the machine.
            .args(["-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let watchdog = watchdog(server.id(), folder);
        let mut process = Self { server, watchdog };
        process.wait_until_ready(folder, port).await;
        process
    }

    async fn wait_until_ready(&mut self, folder: &Path, port: u16) {
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let deadline = Instant::now() + START_DEADLINE;
        while PgConnection::connect(&url).await.is_err() {
            let ended = self.server.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "postgres did not start ({ended:?}):\n{}",
                std::fs::read_to_string(folder.join("postgres.log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        // The watchdog goes first: later the server's number may be another process's.
        for child in [&mut self.watchdog, &mut self.server] {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that does not run as root, which Postgres refuses.
fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some(user) = unprivileged_user() {
        command.uid(user);
    }
    command
}

/// The user to run as, if this process is root's.
fn unprivileged_user() -> Option<u32> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    (id(&["-u"])? == 0).then(|| {
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| id(&["-u", name]))
            .expect("a user `postgres` or `nobody` to run Postgres as")
    })
}

/// The folder of the newest installed server.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let debian = installed.filter_map(|version| {
        let version = version.ok()?;
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let newest = debian
        .filter(|(_, folder)| folder.join("initdb").exists())
        .max()
        .map(|(_, folder)| folder);
    let on_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
    };
    newest.or_else(on_path).unwrap_or_else(|| {
        panic!("no Postgres server is installed; on Debian: `apt-get install postgresql`")
    })
}
