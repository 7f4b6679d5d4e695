//! Private Postgres servers that end with the tests, and a fresh database for each test.

use std::{
    fs::File,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::process::{Process, Signal, free_port};

const START_DEADLINE: Duration = Duration::from_mins(1);

/// The file that a server logs to, in its folder.
const LOG: &str = "postgres.log";

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
    settings: Vec<String>,
    process: Process,
    folder: TempDir,
}

impl PostgresServer {
    /// Initialises and starts a server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with more settings, such as `max_connections=10`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let binaries = binaries();
        let folder = folder();
        initialise(&binaries, folder.path()).await;
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        Self::start_in(folder, binaries, settings).await
    }

    async fn start_in(folder: TempDir, binaries: PathBuf, settings: Vec<String>) -> Self {
        let port = free_port();
        let process = start(&binaries, folder.path(), port, &settings).await;
        Self {
            port,
            binaries,
            settings,
            process,
            folder,
        }
    }

    /// The URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Creates a database and answers its URL.
    pub async fn create_database(&self) -> String {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        self.run(&format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// Runs SQL as the superuser in the database `postgres`.
    pub async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        connection.execute(sql).await.unwrap();
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap()
    }

    /// Kills the server and its connections' processes.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the server as if its machine stood still; its connections stay open.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets the server go on after a pause.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Restarts the server as an operator would: it tells its connections and closes them.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Hands over to another server, which has all data and is answered, and goes on as a standby:
    /// one that takes no writes, for ever.
    pub async fn fail_over(&mut self) -> Self {
        self.stop().await;
        let folder = folder();
        let copied = command(Path::new("cp"))
            .arg("-a")
            .arg(self.folder.path().join("data"))
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(copied.success(), "the data were not copied: {copied}");
        File::create(self.folder.path().join("data/standby.signal")).unwrap();
        self.start_again().await;
        Self::start_in(folder, self.binaries.clone(), self.settings.clone()).await
    }

    async fn stop(&mut self) {
        self.process.signal(Signal::INT);
        self.process.exit(START_DEADLINE).await;
    }

    /// Starts the server once more after a kill, on the same port and with what it had stored.
    pub async fn start_again(&mut self) {
        let folder = self.folder.path();
        self.process = start(&self.binaries, folder, self.port, &self.settings).await;
    }
}

/// Makes the files of a new server. Killed with the test, it takes its folder along.
async fn initialise(binaries: &Path, folder: &Path) {
    let log = folder.join(LOG);
    let mut command = command(&binaries.join("initdb"));
    command
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
        .args(["--locale=C", "--no-sync", "--pgdata"])
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap());
    let mut process = Process::start(&mut command, folder).unwrap();
    let status = process.exit(START_DEADLINE).await;
    assert!(
        status.success(),
        "initdb failed: {}",
        std::fs::read_to_string(&log).unwrap_or_default()
    );
}

/// A folder that the server may write to.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("eventflow-postgres-")
        .tempdir()
        .unwrap();
    if let Some(user) = unprivileged_user() {
        chown(folder.path(), Some(user), None).unwrap();
    }
    folder
}

async fn start(binaries: &Path, folder: &Path, port: u16, settings: &[String]) -> Process {
    let log = folder.join(LOG);
    let append = File::options().create(true).append(true).open(&log);
    let mut command = command(&binaries.join("postgres"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", "max_connections=500"])
        // A test kills processes, not the machine.
        .args(["-c", "fsync=off"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdout(Stdio::null())
        .stderr(append.unwrap());
    let mut process = Process::start(&mut command, folder).unwrap();
    wait_until_ready(&mut process, port, &log).await;
    process
}

async fn wait_until_ready(process: &mut Process, port: u16, log: &Path) {
    let deadline = Instant::now() + START_DEADLINE;
    while PgConnection::connect(&url(port, "postgres")).await.is_err() {
        let ended = process.ended();
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "postgres did not start ({ended:?}):\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

/// A command that does not run as root, which Postgres refuses.
fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir("/");
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
