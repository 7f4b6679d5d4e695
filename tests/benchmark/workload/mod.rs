//! What is measured: one file per kind of figure.

mod throughput;

use clap::ValueEnum;

use crate::{
    Result,
    bench::{Bench, Case, On},
    job::{Mode, Work},
    line::Line,
};

/// A workload of the table of goals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// A handler that does nothing.
    #[value(name = "W1")]
    W1,
    /// The same, inline.
    #[value(name = "W1i")]
    W1i,
    /// A handler with one insert.
    #[value(name = "W2")]
    W2,
    /// The same, inline and without savepoints.
    #[value(name = "W2o")]
    W2o,
    /// Both handlers, from a stream in memory to SQLite.
    #[value(name = "W7")]
    W7,
}

impl Workload {
    pub(crate) const ALL: &[Self] = &[Self::W1, Self::W1i, Self::W2, Self::W2o, Self::W7];

    pub(crate) async fn measure(self, bench: &Bench) -> Result<Vec<Line>> {
        use {
            Mode::{Inline, Owned},
            On::{Servers, Sqlite},
            Work::{Insert, Nothing},
        };
        let case = |on, work, mode| Case { on, work, mode };
        let share = |name, case, least| throughput::measure(bench, name, case, least);
        match self {
            Self::W1 => share("W1", case(Servers, Nothing, Owned), 0.8).await,
            Self::W1i => share("W1i", case(Servers, Nothing, Inline), 0.8).await,
            Self::W2 => share("W2", case(Servers, Insert, Owned), 0.85).await,
            Self::W2o => share("W2o", case(Servers, Insert, Inline), 0.85).await,
            Self::W7 => {
                let mut lines = share("W7", case(Sqlite, Nothing, Owned), 0.8).await?;
                lines.extend(share("W7", case(Sqlite, Insert, Owned), 0.8).await?);
                Ok(lines)
            }
        }
    }
}
