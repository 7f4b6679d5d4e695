//! What is measured: one file per kind of figure.

mod build;
mod claim;
mod cpu;
mod dispatch;
mod latency;
mod memory;
mod order;
mod relay;
mod scaling;
mod throughput;

use clap::ValueEnum;

use crate::{
    Result,
    bench::{Bench, Case},
    line::Line,
    peers::Peer::{self, Apalis, GraphileWorker, PythonEventflow, Sqlxmq},
};

/// A workload of the table of goals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Events per second with a handler that does nothing.
    #[value(name = "W1")]
    W1,
    /// The same, inline.
    #[value(name = "W1i")]
    W1i,
    /// Events per second with a handler that writes a row.
    #[value(name = "W2")]
    W2,
    /// The same, inline and without savepoints.
    #[value(name = "W2o")]
    W2o,
    /// From `XADD` to the start of the handler.
    #[value(name = "W3")]
    W3,
    /// More workers, and more processes.
    #[value(name = "W4")]
    W4,
    /// Claims in a large table.
    #[value(name = "W5")]
    W5,
    /// Memory.
    #[value(name = "W6")]
    W6,
    /// Both handlers, from a stream in memory to SQLite.
    #[value(name = "W7")]
    W7,
    /// CPU time.
    #[value(name = "W8")]
    W8,
    /// Building many handlers.
    #[value(name = "W9")]
    W9,
    /// Order per aggregate.
    #[value(name = "W10")]
    W10,
    /// From the outbox to the stream.
    #[value(name = "W11")]
    W11,
}

impl Workload {
    pub(crate) async fn measure(self, bench: &Bench) -> Result<Vec<Line>> {
        bench.progress.begin(self.name());
        match self {
            Self::W1 | Self::W1i | Self::W2 | Self::W2o | Self::W7 => self.rates(bench).await,
            Self::W3 => latency::measure(bench).await,
            Self::W4 => scaling::measure(bench).await,
            Self::W5 => claim::measure(bench).await,
            Self::W6 => memory::measure(bench).await,
            Self::W8 => {
                let mut lines = cpu::measure(bench).await?;
                lines.extend(dispatch::measure(bench).await?);
                Ok(lines)
            }
            Self::W9 => build::measure(bench).await,
            Self::W10 => order::measure(bench).await,
            Self::W11 => relay::measure(bench).await,
        }
    }

    /// The engine's rates beside its bare loops' and the peers'.
    async fn rates(self, bench: &Bench) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for (case, least) in self.cases() {
            let own;
            let pairs = if *case == Case::NOOP {
                bench.noop().await?
            } else {
                own = bench.pairs(*case).await?;
                &own
            };
            lines.push(throughput::share(self.name(), *case, pairs, *least));
            for (peer, goal) in self.peers() {
                if let Some(peer) = bench.peer(*peer, case.work).await? {
                    lines.push(throughput::times(self.name(), *case, pairs, &peer, *goal));
                }
            }
        }
        Ok(lines)
    }

    /// What is compared with a bare loop, and the least share that will do.
    const fn cases(self) -> &'static [(Case, f64)] {
        match self {
            Self::W1 => &[(Case::NOOP, 0.8)],
            Self::W1i => &[(Case::NOOP_INLINE, 0.8)],
            Self::W2 => &[(Case::INSERT, 0.85)],
            Self::W2o => &[(Case::INSERT_INLINE, 0.85)],
            Self::W7 => &[(Case::SQLITE_NOOP, 0.8), (Case::SQLITE_INSERT, 0.8)],
            _ => &[],
        }
    }

    /// Who does the same, and how many times as fast the engine has to be, if that is a goal.
    const fn peers(self) -> &'static [(Peer, Option<f64>)] {
        match self {
            Self::W1 => &[(PythonEventflow, Some(150.0))],
            Self::W1i => &[(GraphileWorker, Some(1.3)), (Apalis, None), (Sqlxmq, None)],
            Self::W2 => &[(PythonEventflow, Some(45.0)), (Sqlxmq, Some(5.0))],
            Self::W2o => &[
                (PythonEventflow, Some(90.0)),
                (GraphileWorker, Some(4.0)),
                (Apalis, None),
            ],
            _ => &[],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W1i => "W1i",
            Self::W2 => "W2",
            Self::W2o => "W2o",
            Self::W3 => "W3",
            Self::W4 => "W4",
            Self::W5 => "W5",
            Self::W6 => "W6",
            Self::W7 => "W7",
            Self::W8 => "W8",
            Self::W9 => "W9",
            Self::W10 => "W10",
            Self::W11 => "W11",
        }
    }
}
