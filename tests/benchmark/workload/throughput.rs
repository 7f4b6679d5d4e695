//! Events per second, from a stream in which all of them wait to the last one's commit.

use crate::{
    bench::{Case, Pair},
    line::{Goal, Line},
};

/// The engine's share of the bare loop's rate, which has to be at least so much.
pub(super) fn share(workload: &'static str, case: Case, pairs: &[Pair], least: f64) -> Line {
    let rates = pairs
        .iter()
        .map(|pair| (pair.engine.rate(), pair.bare.rate()));
    Line::beside(
        workload,
        format!("{case}: to its bare loop"),
        "events/s",
        rates,
    )
    .goal(Goal::RatioAtLeast(least))
    .foreign(foreign(pairs))
}

/// The shares of other programs in all runs.
pub(super) fn foreign(pairs: &[Pair]) -> impl Iterator<Item = f64> {
    let runs = pairs.iter().flat_map(|pair| [&pair.engine, &pair.bare]);
    runs.map(|run| run.shares.foreign)
}
