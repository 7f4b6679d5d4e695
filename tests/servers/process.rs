//! Processes that end with the test: private servers and workers.

use std::{
    collections::HashSet,
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// A port that nobody listens on, and that no other test of this process was given.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// A process, and a second one that outlives the test to end it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watchdog: Child,
}

impl Process {
    /// Starts a process that works in a folder, which is removed with it if the test is killed.
    pub fn start(command: &mut Command, folder: &Path) -> io::Result<Self> {
        // What is sent to the test's group, as by `timeout`, is not for it: its watchdog ends it.
        let mut child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        match watchdog(child.id(), folder) {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().unwrap();
        if ended.is_some() {
            // Later the process's number may be another's.
            self.dismiss_watchdog();
        }
        ended
    }

    /// Waits until the process has ended.
    pub async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        let exit = async {
            loop {
                if let Some(status) = self.ended() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let status = tokio::time::timeout(deadline, exit).await;
        status.unwrap_or_else(|_| panic!("the process did not end within {deadline:?}"))
    }

    /// Sends a signal to the process; one that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            send(self.id(), signal);
        }
    }

    /// Stops the process and its children as if the machine stood still: nothing is closed.
    pub fn pause(&mut self) {
        // The parent first, so that it starts no more of them.
        self.signal(Signal::STOP);
        self.signal_children(Signal::STOP);
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT);
    }

    /// Ends the process and its children with SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::STOP);
        self.signal_children(Signal::KILL);
        // Before the process: later its number may be another's.
        self.dismiss_watchdog();
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }

    /// A server's children each lead a group of their own, so no signal to a group reaches them.
    fn signal_children(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let id = self.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
            .expect("the system lists a process's children under /proc");
        for child in children.split_whitespace() {
            send(child.parse().unwrap(), signal);
        }
    }

    fn dismiss_watchdog(&mut self) {
        self.watchdog.kill().unwrap_or_default();
        self.watchdog.wait().map(drop).unwrap_or_default();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process that has ended in between is no error.
fn send(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    match kill_process(process.expect("a process has a number"), signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("{signal:?} was not sent: {error}"),
    }
}

/// Ends a process with its children and removes its folder when this process is gone, also by
/// SIGKILL: its standard input ends then.
///
/// It leads a group of its own. In the test's it would be killed with the test; and a group that
/// is orphaned with a stopped process in it is sent SIGHUP.
fn watchdog(process: u32, folder: &Path) -> io::Result<Child> {
    // What was killed may write its last file while the folder is being removed.
    const SCRIPT: &str = r#"
        read -r _
        kill -STOP "$1"
        kill -9 $(cat "/proc/$1/task/$1/children") "$1"
        for _ in 1 2 3 4 5; do
            rm -rf "$2" && break
            sleep 0.2
        done"#;

    Command::new("sh")
        .args(["-c", SCRIPT, "watchdog"])
        .arg(process.to_string())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
