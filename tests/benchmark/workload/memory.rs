//! How much memory a consumer's process has at most.

use std::time::Duration;

use super::throughput::foreign;
use crate::{
    Result,
    bench::{Bench, Run},
    job::{Flood, Job, Mode, Until, Work},
    line::{Goal, Line},
    site::ServerSite,
};

/// How long a consumer is idle.
const IDLE: Duration = Duration::from_secs(3);

/// How many events wait in a long backlog.
const BACKLOG: u32 = 1_000_000;

/// More than this would grow with the backlog.
const NO_GROWTH: f64 = 1.1;

const MEGABYTE: f64 = 1e6;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let flooded = bench.noop().await?;
    let backlog = bench.events.max(BACKLOG);
    let mut idle = Vec::new();
    let mut behind = Vec::new();
    for run in 1..=bench.runs {
        bench
            .progress
            .say(format!("idle, run {run} of {}", bench.runs));
        idle.push(consume(bench, 0, Until::Quiet(IDLE)).await?);
        let message = format!("{backlog} events wait, run {run} of {}", bench.runs);
        bench.progress.say(message);
        behind.push(consume(bench, backlog, Until::Processed(bench.events)).await?);
    }

    let grown = behind
        .iter()
        .zip(flooded)
        .map(|(behind, flooded)| (megabytes(behind), megabytes(&flooded.engine)));
    let line = |metric: String, runs: &[Run]| {
        Line::new("W6", metric, "MB", runs.iter().map(megabytes))
            .foreign(runs.iter().map(|run| run.shares.foreign))
    };
    let engine: Vec<Run> = flooded.iter().map(|pair| pair.engine.clone()).collect();
    Ok(vec![
        line("memory, idle".to_owned(), &idle).goal(Goal::AtMost(12.0)),
        line("memory under W1".to_owned(), &engine).goal(Goal::AtMost(40.0)),
        Line::beside("W6", format!("{backlog} events wait: to W1"), "MB", grown)
            .goal(Goal::RatioAtMost(NO_GROWTH))
            .foreign(foreign(flooded))
            .foreign(behind.iter().map(|run| run.shares.foreign)),
    ])
}

async fn consume(bench: &Bench, waiting: u32, until: Until) -> Result<Run> {
    let site = ServerSite::create(&bench.servers, waiting).await?;
    let job = Job::Engine(Flood {
        place: site.place(),
        work: Work::Nothing,
        mode: Mode::Owned,
        workers: None,
        until,
    });
    let run = Run::of(&job, bench.events).await?;
    site.remove(&bench.servers).await?;
    Ok(run)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory has fewer bytes than 2^53"
)]
fn megabytes(run: &Run) -> f64 {
    run.outcome.peak_bytes as f64 / MEGABYTE
}
