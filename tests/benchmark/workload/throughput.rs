//! Events per second, from a stream in which all of them wait to the last one's commit.

use crate::{
    Result,
    bench::{Bench, Case, Pair},
    job::Work,
    line::{Goal, Line},
};

/// Measures the engine's share of the bare loop's rate, which has to be at least so much.
pub(crate) async fn measure(
    bench: &Bench,
    workload: &'static str,
    case: Case,
    least: f64,
) -> Result<Vec<Line>> {
    let pairs = bench.pairs(case).await?;
    Ok(vec![share(workload, case.work, &pairs, least)])
}

fn share(workload: &'static str, work: Work, pairs: &[Pair], least: f64) -> Line {
    let what = match work {
        Work::Nothing => "no-op handler",
        Work::Insert => "one insert",
    };
    let rates = pairs
        .iter()
        .map(|pair| (pair.engine.rate(), pair.bare.rate()));
    let foreign = pairs
        .iter()
        .flat_map(|pair| [pair.engine.shares.foreign, pair.bare.shares.foreign]);
    Line::beside(
        workload,
        format!("{what}, and its bare loop"),
        "events/s",
        rates,
    )
    .goal(Goal::RatioAtLeast(least))
    .foreign(foreign)
}
