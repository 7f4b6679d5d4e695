//! How much CPU time the consumer's process takes per event.

use super::throughput::foreign;
use crate::{
    Result,
    bench::{Bench, Run},
    line::{Goal, Line},
};

const MICROSECONDS: f64 = 1e6;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let pairs = bench.noop().await?;
    let times = pairs
        .iter()
        .map(|pair| (per_event(&pair.engine), per_event(&pair.bare)));
    let line = Line::beside(
        "W8",
        "client CPU per event in W1: to the bare loop",
        "µs",
        times,
    )
    .goal(Goal::AtMost(12.0))
    .foreign(foreign(pairs));
    Ok(vec![line])
}

fn per_event(run: &Run) -> f64 {
    run.outcome.cpu_seconds * MICROSECONDS / f64::from(run.events)
}
