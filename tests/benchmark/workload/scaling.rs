//! Whether more workers, and more processes, get more done, and nothing twice.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{
    Result,
    bench::Bench,
    figures::Figures,
    job::{Flood, Job, Mode, Outcome, Until, Work},
    line::{Goal, Line},
    load::{Load, Shares},
    site::{Done, ServerSite},
};

/// After so long without an event a process is done: how many the others take it does not know.
const QUIET: Duration = Duration::from_secs(1);

/// A machine that is busier than this has nothing left for more workers.
const FULL: f64 = 0.9;

/// By how much of the rate before it a rate may fall.
const FALL: f64 = 0.95;

/// Some processes with some workers each.
#[derive(Debug, Clone, Copy)]
struct Step {
    name: &'static str,
    processes: u32,
    workers: usize,
}

const STEPS: [Step; 4] = [
    Step {
        name: "1 worker",
        processes: 1,
        workers: 1,
    },
    Step {
        name: "2 workers",
        processes: 1,
        workers: 2,
    },
    Step {
        name: "4 workers",
        processes: 1,
        workers: 4,
    },
    Step {
        name: "2 processes of 4 workers",
        processes: 2,
        workers: 4,
    },
];

/// What came of one run of a step.
struct Ran {
    rate: f64,
    shares: Shares,
    twice: i64,
}

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut runs: [Vec<Ran>; STEPS.len()] = std::array::from_fn(|_| Vec::new());
    for run in 1..=bench.runs {
        for (step, ran) in STEPS.iter().zip(&mut runs) {
            let message = format!("{}, run {run} of {}", step.name, bench.runs);
            bench.progress.say(message);
            ran.push(flood(bench, *step).await?);
        }
    }

    let mut lines = Vec::new();
    let mut before: Option<(&Step, &Vec<Ran>)> = None;
    for (step, ran) in STEPS.iter().zip(&runs) {
        let rates = ran.iter().map(|ran| ran.rate);
        let line = match before {
            None => Line::new(
                "W4",
                format!("one insert, {}", step.name),
                "events/s",
                rates,
            ),
            Some((step_before, ran_before)) => {
                let pairs = rates.zip(ran_before.iter().map(|ran| ran.rate));
                let busy = Figures::new(ran_before.iter().map(|ran| ran.shares.all)).median();
                let least = if busy < FULL { 1.0 } else { FALL };
                let metric = format!("one insert, {}: to {}", step.name, step_before.name);
                Line::beside("W4", metric, "events/s", pairs).goal(Goal::RatioAtLeast(least))
            }
        };
        lines.push(line.foreign(ran.iter().map(|ran| ran.shares.foreign)));
        before = Some((step, ran));
    }
    let twice = runs.iter().flatten().map(|ran| ran.twice).max();
    let twice = f64::from(i32::try_from(twice.unwrap_or_default())?);
    let line = Line::new("W4", "handled twice, in the worst run", "events", [twice]);
    lines.push(line.goal(Goal::AtMost(0.0)));
    Ok(lines)
}

async fn flood(bench: &Bench, step: Step) -> Result<Ran> {
    let events = bench.events;
    let mut site = ServerSite::create(&bench.servers, events).await?;
    let job = Job::Engine(Flood {
        place: site.place(),
        work: Work::Insert,
        mode: Mode::Owned,
        workers: Some(step.workers),
        until: match step.processes {
            1 => Until::Processed(events),
            _ => Until::Quiet(QUIET),
        },
    });
    let load = Load::start()?;
    let mut processes: JoinSet<Result<Outcome>> = (0..step.processes)
        .map(|_| {
            let job = job.clone();
            async move { job.run().await }
        })
        .collect();
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    let shares = load.shares()?;

    let done = site.done().await?;
    if !done.is_at_least(&Done::all(events, Work::Insert)) {
        return Err(format!("not all was done with {}: {done:?}", step.name).into());
    }
    let rate = f64::from(events) / site.span().await?;
    site.remove(&bench.servers).await?;
    Ok(Ran {
        rate,
        shares,
        twice: done.twice(),
    })
}
