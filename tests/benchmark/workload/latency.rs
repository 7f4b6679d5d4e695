//! How long an event takes from the producer to the start of its handler.

use std::time::Duration;

use crate::{
    Result,
    bench::Bench,
    job::{Job, Latencies, Place, Trickle},
    line::{Goal, Line},
    load::Load,
    site::ServerSite,
};

/// Events that come at one rate.
struct Rate {
    name: &'static str,
    pause: Duration,
    events: u32,
    /// Milliseconds.
    p50: Option<f64>,
    p99: f64,
}

/// As many events as a quarter of a minute or a minute has.
const RATES: [Rate; 3] = [
    Rate {
        name: "100/s",
        pause: Duration::from_millis(10),
        events: 2_000,
        p50: Some(1.3),
        p99: 3.0,
    },
    Rate {
        name: "10/s",
        pause: Duration::from_millis(100),
        events: 200,
        p50: Some(1.3),
        p99: 3.0,
    },
    // Slower than a read waits and an idle consumer polls.
    Rate {
        name: "0.4/s",
        pause: Duration::from_millis(2_500),
        events: 25,
        p50: None,
        p99: 5.0,
    },
];

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for rate in RATES {
        let mut latencies = Vec::new();
        let mut foreign = Vec::new();
        for run in 1..=bench.runs {
            let message = format!("latency at {}, run {run} of {}", rate.name, bench.runs);
            bench.progress.say(message);
            let load = Load::start()?;
            let engine = async || trickle(bench, Job::EngineTrickle, &rate).await;
            let bare = async || trickle(bench, Job::BareTrickle, &rate).await;
            // By turns, so that what disturbs one disturbs the other.
            latencies.push(if run % 2 == 0 {
                (engine().await?, bare().await?)
            } else {
                let bare = bare().await?;
                (engine().await?, bare)
            });
            foreign.push(load.shares()?.foreign);
        }
        let line = |name, goal, figure: fn(&Latencies) -> u64| -> Result<Line> {
            let figures = latencies.iter().map(|(engine, bare)| {
                Ok((milliseconds(figure(engine))?, milliseconds(figure(bare))?))
            });
            let figures: Result<Vec<(f64, f64)>> = figures.collect();
            let metric = format!(
                "XADD to handler at {}, n = {}: {name}, to its bare loop",
                rate.name, rate.events
            );
            Ok(Line::beside("W3", metric, "ms", figures?)
                .goal(Goal::AtMost(goal))
                .foreign(foreign.iter().copied()))
        };
        if let Some(p50) = rate.p50 {
            lines.push(line("p50", p50, |latencies| latencies.p50)?);
        }
        lines.push(line("p99", rate.p99, |latencies| latencies.p99)?);
    }
    Ok(lines)
}

async fn trickle(bench: &Bench, contender: fn(Trickle) -> Job, rate: &Rate) -> Result<Latencies> {
    let site = ServerSite::create(&bench.servers, 0).await?;
    let Place::Servers { redis, postgres } = site.place() else {
        return Err("events come from a server".into());
    };
    let job = contender(Trickle {
        redis,
        postgres,
        pause: rate.pause,
        events: rate.events,
    });
    let latencies = job.run().await?;
    site.remove(&bench.servers).await?;
    Ok(latencies)
}

fn milliseconds(microseconds: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(microseconds)?) / 1e3)
}
