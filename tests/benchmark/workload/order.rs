//! What the order per aggregate costs.

use crate::{
    Result,
    bench::Bench,
    job::{Flood, Job, Mode, Outcome, Until, Work},
    line::{Goal, Line},
    load::Load,
    site::{Done, ServerSite},
};

/// The least share of the rate without order that will do.
const LEAST: f64 = 0.6;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut pairs = Vec::new();
    let mut foreign = Vec::new();
    for run in 1..=bench.runs {
        let mut rates = [0.0; 2];
        for (mode, rate) in [Mode::Ordered, Mode::Owned].into_iter().zip(&mut rates) {
            let message = format!("{mode:?}, run {run} of {}", bench.runs);
            bench.progress.say(message);
            let (measured, busy) = flood(bench, mode).await?;
            *rate = measured;
            foreign.push(busy);
        }
        let [ordered, unordered] = rates;
        pairs.push((ordered, unordered));
    }
    let metric = "one insert, ordered, 1,000 aggregates: to unordered";
    let line = Line::beside("W10", metric, "events/s", pairs);
    Ok(vec![line.goal(Goal::RatioAtLeast(LEAST)).foreign(foreign)])
}

/// The rate in one mode, and how busy others were meanwhile.
async fn flood(bench: &Bench, mode: Mode) -> Result<(f64, f64)> {
    let events = bench.events;
    let mut site = ServerSite::create(&bench.servers, events).await?;
    let job = Job::Engine(Flood {
        place: site.place(),
        work: Work::Insert,
        mode,
        workers: None,
        until: Until::Processed(events),
    });
    let load = Load::start()?;
    let _outcome: Outcome = job.run().await?;
    let foreign = load.shares()?.foreign;

    let done = site.done().await?;
    if !done.is_at_least(&Done::all(events, Work::Insert)) {
        return Err(format!("not all was done in mode {mode:?}: {done:?}").into());
    }
    let rate = f64::from(events) / site.span().await?;
    site.remove(&bench.servers).await?;
    Ok((rate, foreign))
}
