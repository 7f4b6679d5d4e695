//! In which mode each worker runs: workers of different modes share the table, as during a deploy.

use std::{collections::BTreeMap, fmt, sync::Mutex, time::Duration};

use clap::ValueEnum;
use eventflow_tests::shop;
use fastrand::Rng;

/// In a soak as long as this, workers of every mode are killed at work.
const MEETS_OWNED: Duration = Duration::from_mins(5);

/// See [`eventflow::modes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Mode {
    /// Rows are leased as they are stored.
    Owned,
    /// A batch is stored and handled in one transaction, with a savepoint for each event.
    Inline,
    /// As inline, without those savepoints.
    ReplaySafe,
    /// The events of an aggregate run one at a time, in order. Not drawn: all workers must.
    Ordered,
}

impl Mode {
    const DRAWN: [Self; 3] = [Self::Owned, Self::Inline, Self::ReplaySafe];

    /// What a worker is told.
    pub(crate) fn settings(self) -> shop::Mode {
        shop::Mode {
            inline: !self.owns_at_birth(),
            replay_safe: self == Self::ReplaySafe,
        }
    }

    pub(crate) fn owns_at_birth(self) -> bool {
        matches!(self, Self::Owned | Self::Ordered)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "owned",
            Self::Inline => "inline",
            Self::ReplaySafe => "replay-safe",
            Self::Ordered => "ordered",
        })
    }
}

/// The modes of all workers, in the order in which they start.
#[derive(Debug)]
pub(crate) struct Modes {
    only: Option<Mode>,
    drawn: Mutex<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    rng: Rng,
    /// Each mode once, before any comes again.
    left: Vec<Mode>,
    counts: BTreeMap<Mode, u32>,
}

impl Modes {
    /// One mode, or each drawn by the generator.
    pub(crate) fn new(only: Option<Mode>, rng: Rng) -> Self {
        Self {
            only,
            drawn: Mutex::new(Drawn {
                rng,
                left: Vec::new(),
                counts: BTreeMap::new(),
            }),
        }
    }

    /// The next worker's.
    pub(crate) fn next(&self) -> Mode {
        let mut drawn = self.drawn.lock().unwrap();
        let Drawn { rng, left, counts } = &mut *drawn;
        if left.is_empty() {
            *left = Mode::DRAWN.to_vec();
            rng.shuffle(left);
        }
        let mode = left.pop().unwrap();
        let mode = self.only.unwrap_or(mode);
        *counts.entry(mode).or_default() += 1;
        mode
    }

    /// Whether a soak of this length must have killed a worker with leased rows: of all modes, one of
    /// three workers has them, and not at each moment.
    pub(crate) fn have_owned(&self, length: Duration) -> bool {
        match self.only {
            Some(mode) => mode.owns_at_birth(),
            None => length >= MEETS_OWNED,
        }
    }

    /// Whether the events of an aggregate must have run in order.
    pub(crate) fn are_ordered(&self) -> bool {
        self.only == Some(Mode::Ordered)
    }

    /// How many workers have run in each mode.
    pub(crate) fn counts(&self) -> BTreeMap<Mode, u32> {
        self.drawn.lock().unwrap().counts.clone()
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only {
            Some(mode) => write!(f, "mode {mode}"),
            None => f.write_str("all modes"),
        }
    }
}
