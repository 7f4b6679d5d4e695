//! Which faults happen when: all of it from the seed, before anything has begun.

use std::{fmt, time::Duration};

use eventflow_tests::proxy::Direction;
use fastrand::Rng;

/// How many workers there are.
pub(crate) const SEATS: usize = 3;

/// How long a lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

const ROUND: Duration = Duration::from_secs(5);
const FAULTS_OF_A_STORM: usize = 5;
/// Long enough for workers to try again as seldom as they ever do.
const LONGEST_OUTAGE: Duration = Duration::from_secs(4);
/// Within this time after a storm has begun, its faults begin.
const STORM: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Redis,
    Postgres,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// SIGKILL, and another worker starts.
    KillWorker { seat: usize },
    /// SIGKILL to one that has waited for a server for a while: it has begun what it cannot finish.
    KillWaitingWorker {
        seat: usize,
        server: Server,
        time: Duration,
    },
    /// SIGSTOP, and SIGCONT later.
    PauseWorker { seat: usize, time: Duration },
    /// SIGTERM, and another worker starts when it has ended.
    ReplaceWorker { seat: usize },
    /// SIGKILL; the server is down for a while.
    KillServer { server: Server, time: Duration },
    /// As an operator does.
    RestartServer { server: Server },
    /// All connections are reset.
    Cut { server: Server },
    /// One connection is reset in the middle of a message.
    CutAfter {
        server: Server,
        direction: Direction,
        bytes: usize,
    },
    /// All connections end in one direction.
    HalfClose {
        server: Server,
        direction: Direction,
    },
    /// Nothing passes for a while.
    Stall { server: Server, time: Duration },
    /// The open connections to Redis are half open for good.
    ForgetConnections,
    /// `pg_terminate_backend`.
    TerminateSessions { only_in_transaction: bool },
}

/// Faults that belong together.
#[derive(Debug)]
pub(crate) enum Round {
    /// One fault, after which the time of recovery is taken.
    Single(Fault),
    /// Several at once, each at its time.
    Storm(Vec<(Duration, Fault)>),
}

/// The rounds, each with its time.
pub(crate) fn schedule(rng: &mut Rng, length: Duration) -> Vec<(Duration, Round)> {
    let mut singles = Deck::new(singles);
    let mut storms = Deck::new(storms);
    let starts = (1..).map(|round| ROUND * round);
    let starts = starts.take_while(|start| *start + ROUND <= length);
    let rounds = starts.enumerate().map(|(round, start)| {
        let round = if round % 2 == 0 {
            Round::Single(singles.draw(rng))
        } else {
            let fault = |_| (within(rng, Duration::ZERO, STORM), storms.draw(rng));
            Round::Storm((0..FAULTS_OF_A_STORM).map(fault).collect())
        };
        (start, round)
    });
    rounds.collect()
}

/// Faults in random order, all of them once before any comes again.
struct Deck {
    shuffled: fn(&mut Rng) -> Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn new(shuffled: fn(&mut Rng) -> Vec<Fault>) -> Self {
        Self {
            shuffled,
            left: Vec::new(),
        }
    }

    fn draw(&mut self, rng: &mut Rng) -> Fault {
        if self.left.is_empty() {
            self.left = (self.shuffled)(rng);
            rng.shuffle(&mut self.left);
        }
        self.left.pop().unwrap()
    }
}

/// As many as a minute has rounds for them.
fn singles(rng: &mut Rng) -> Vec<Fault> {
    let mut faults = Vec::new();
    for server in [Server::Redis, Server::Postgres] {
        let time = within(rng, Duration::ZERO, LONGEST_OUTAGE);
        faults.extend([
            Fault::KillServer { server, time },
            Fault::RestartServer { server },
        ]);
    }
    let seat = rng.usize(..SEATS);
    faults.push(Fault::KillWorker { seat });
    let seat = rng.usize(..SEATS);
    let time = longer_than_a_lease(rng);
    faults.push(Fault::PauseWorker { seat, time });
    faults
}

fn longer_than_a_lease(rng: &mut Rng) -> Duration {
    let second = Duration::from_secs(1);
    within(rng, LEASE + second / 5, LEASE + second)
}

fn storms(rng: &mut Rng) -> Vec<Fault> {
    let second = Duration::from_secs(1);
    let mut faults = Vec::new();
    for server in [Server::Redis, Server::Postgres] {
        faults.extend([
            Fault::KillServer {
                server,
                time: within(rng, Duration::ZERO, second),
            },
            Fault::Cut { server },
            Fault::HalfClose {
                server,
                direction: direction(rng),
            },
            Fault::Stall {
                server,
                time: within(rng, second / 5, LEASE + second / 2),
            },
            Fault::KillWaitingWorker {
                seat: rng.usize(..SEATS),
                server,
                time: within(rng, second / 5, second),
            },
        ]);
        faults.extend([(); 2].map(|()| Fault::CutAfter {
            server,
            direction: direction(rng),
            bytes: rng.usize(..2000),
        }));
    }
    for time in [within(rng, second / 5, second), longer_than_a_lease(rng)] {
        let seat = rng.usize(..SEATS);
        faults.push(Fault::PauseWorker { seat, time });
    }
    for only_in_transaction in [true, false] {
        faults.extend([
            Fault::TerminateSessions {
                only_in_transaction,
            },
            Fault::KillWorker {
                seat: rng.usize(..SEATS),
            },
            Fault::ReplaceWorker {
                seat: rng.usize(..SEATS),
            },
        ]);
    }
    faults.push(Fault::ForgetConnections);
    faults
}

fn direction(rng: &mut Rng) -> Direction {
    if rng.bool() {
        Direction::ToServer
    } else {
        Direction::ToClient
    }
}

fn within(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    least + most.saturating_sub(least).mul_f64(rng.f64())
}

impl Fault {
    /// What the faults of one kind are called.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::KillWorker { .. } => "a worker is killed".to_owned(),
            Self::KillWaitingWorker { server, .. } => {
                format!("a worker is killed that waits for {server}")
            }
            Self::PauseWorker { .. } => "a worker stands still".to_owned(),
            Self::ReplaceWorker { .. } => "a worker is replaced".to_owned(),
            Self::KillServer { server, .. } => format!("{server} is killed"),
            Self::RestartServer { server } => format!("{server} is restarted"),
            Self::Cut { server } => format!("connections to {server} are cut"),
            Self::CutAfter { server, .. } => format!("a message of {server} is cut"),
            Self::HalfClose { server, .. } => format!("connections to {server} are half closed"),
            Self::Stall { server, .. } => format!("connections to {server} stall"),
            Self::ForgetConnections => "connections to Redis are forgotten".to_owned(),
            Self::TerminateSessions { .. } => "sessions of Postgres are terminated".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())?;
        match self {
            Self::KillWorker { seat } | Self::ReplaceWorker { seat } => write!(f, ": seat {seat}"),
            Self::PauseWorker { seat, time } | Self::KillWaitingWorker { seat, time, .. } => {
                write!(f, ": seat {seat}, {:.1} s", time.as_secs_f64())
            }
            Self::KillServer { time, .. } | Self::Stall { time, .. } => {
                write!(f, ": {:.1} s", time.as_secs_f64())
            }
            Self::CutAfter {
                direction, bytes, ..
            } => write!(f, ": {direction:?} after {bytes} bytes"),
            Self::HalfClose { direction, .. } => write!(f, ": {direction:?}"),
            Self::TerminateSessions {
                only_in_transaction: true,
            } => f.write_str(": those in a transaction"),
            Self::RestartServer { .. }
            | Self::Cut { .. }
            | Self::ForgetConnections
            | Self::TerminateSessions { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Postgres => "Postgres",
        })
    }
}
