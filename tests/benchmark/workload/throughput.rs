//! Events per second, from a stream in which all of them wait to the last one's commit.

use crate::{
    bench::{Case, Pair},
    line::{Goal, Line},
    peers::PeerRuns,
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

/// How many times as fast as a peer the engine is.
pub(super) fn times(
    workload: &'static str,
    case: Case,
    pairs: &[Pair],
    peer: &PeerRuns,
    goal: Option<f64>,
) -> Line {
    let rates = pairs.iter().zip(&peer.runs);
    let rates = rates.map(|(pair, (rate, _))| (pair.engine.rate(), *rate));
    let line = Line::beside(workload, format!("{case}: to {peer}"), "events/s", rates)
        .foreign(foreign(pairs))
        .foreign(peer.runs.iter().map(|(_, shares)| shares.foreign));
    match goal {
        Some(least) => line.goal(Goal::RatioAtLeast(least)),
        None => line,
    }
}

/// The shares of other programs in all runs.
pub(super) fn foreign(pairs: &[Pair]) -> impl Iterator<Item = f64> {
    let runs = pairs.iter().flat_map(|pair| [&pair.engine, &pair.bare]);
    runs.map(|run| run.shares.foreign)
}
