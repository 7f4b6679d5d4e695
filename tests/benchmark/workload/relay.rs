//! How fast the relay takes what waits in the outbox to the stream.

use std::time::Instant;

use eventflow::prelude::*;

use crate::{Result, bench::Bench, line::Line, load::Load, site::ServerSite};

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut rates = Vec::new();
    let mut foreign = Vec::new();
    for run in 1..=bench.runs {
        let message = format!("the relay, run {run} of {}", bench.runs);
        bench.progress.say(message);
        let mut site = ServerSite::create(&bench.servers, 0).await?;
        let outbox = site.publish(bench.events).await?;
        let relay = Relay::builder(outbox, site.sink(&bench.servers).await?).build()?;

        let load = Load::start()?;
        let began = Instant::now();
        let report = relay.drain().await?;
        rates.push(f64::from(bench.events) / began.elapsed().as_secs_f64());
        foreign.push(load.shares()?.foreign);

        if report.published != u64::from(bench.events) {
            return Err(format!("not all was published: {report}").into());
        }
        drop(relay);
        site.remove(&bench.servers).await?;
    }
    let line = Line::new("W11", "outbox to stream", "events/s", rates);
    Ok(vec![line.foreign(foreign)])
}
