//! The soak: producers publish events of every kind to three worker processes, while workers,
//! servers and the networks between them fail. In the end each event must have become what it had
//! to become, and nothing else may have happened.
//!
//! All that is random comes from a seed, which is printed: the same seed gives the same faults at
//! the same times, and the same messages in the same order.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failed helper should fail the soak; its table is for whoever runs it"
)]

mod checks;
mod cluster;
mod counters;
mod crew;
mod database;
mod ledger;
mod message;
mod modes;
mod nemesis;
mod producer;
mod recovery;
mod schedule;
mod stream;
mod table;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use fastrand::Rng;

use self::{
    checks::Check,
    cluster::Cluster,
    ledger::{Carried, Ledger},
    message::{Message, Messages},
    modes::{Mode, Modes},
    nemesis::Nemesis,
    producer::{Producers, Publisher},
    recovery::{Recoveries, Recovery},
    stream::Stream,
    table::Table,
};

/// How many messages are published when nothing fails any more.
const LAST_MESSAGES: usize = 500;

/// Publishes events while everything fails, and checks that nothing is lost or done twice.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long things fail.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What all random choices come from; random itself unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// In which mode all workers run; each worker's is drawn unless given.
    #[arg(long)]
    mode: Option<Mode>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {
        minutes,
        seed,
        mode,
    } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let mut rng = Rng::with_seed(seed);
    let modes = Modes::new(mode, rng.fork());
    let title = format!("soak: seed {seed}, {minutes} min, {modes}");
    println!("{title}");
    let logs = tempfile::Builder::new()
        .prefix("eventflow-soak-")
        .tempdir()
        .unwrap();

    let length = Duration::from_secs_f64(minutes * 60.0);
    let table = soak(title, rng, modes, length, logs.path()).await;

    println!("{table}");
    if table.holds() {
        return ExitCode::SUCCESS;
    }
    println!("the workers' logs: {}", logs.keep().display());
    let mode = mode.map_or_else(String::new, |mode| format!(" --mode {mode}"));
    println!("once more: ./tests/soak --minutes {minutes} --seed {seed}{mode}");
    ExitCode::FAILURE
}

async fn soak(title: String, mut rng: Rng, modes: Modes, length: Duration, logs: &Path) -> Table {
    let schedule = schedule::schedule(&mut rng.fork(), length);
    let ledger = Arc::new(Ledger::default());
    let recoveries = Recoveries::default();
    let cluster = Cluster::start(modes, logs).await;
    let nemesis = Nemesis::new(&cluster, &recoveries);

    let producers = Producers::start(&cluster.redis_url, &ledger, &mut rng);
    let failing = async {
        nemesis.run(schedule).await;
        producers.stop().await;
        cluster.drained().await
    };
    let left = tokio::select! {
        left = failing => left,
        () = cluster.crew.tend() => unreachable!("workers are tended for ever"),
    };
    let idle = cluster.database.idle_in_transaction().await;
    let mut checks = vec![
        Check::new("everything is done once nothing fails any more", left),
        Check::new("no session is left in a transaction", idle),
        Check::new(
            "the server had to end no session for that",
            cluster.ended_in_transaction().await,
        ),
    ];
    recoveries.note(Recovery::IdleStop, cluster.crew.replace_all().await);
    let reports = cluster.crew.take_reports();
    let messages = publish_last(&cluster, &ledger, rng).await;
    checks.push(Check::new(
        "everything is done that comes after the faults",
        cluster.drained().await,
    ));
    recoveries.note(Recovery::IdleStop, cluster.crew.stop_all().await);
    let last_reports = cluster.crew.take_reports();

    let counts = [&reports[..], &last_reports].concat();
    let carried = carried(&cluster, &ledger).await;
    let written = cluster.database.written().await;
    let is_ordered = cluster.crew.modes().are_ordered();
    checks.extend(checks::outcome(&carried, &written, is_ordered));
    checks.extend(counters::checks(&counts, &carried));
    checks.push(Check::new(
        "after the faults, the counts are exact",
        counters::inexact(&last_reports, &messages),
    ));
    checks.push(Check::new(
        "no worker ended or panicked by itself",
        cluster.crew.take_surprises(),
    ));
    checks.extend(recoveries.checks(length, cluster.crew.modes().have_owned(length)));
    Table {
        title,
        carried,
        workers: cluster.crew.modes().counts(),
        faults: nemesis.faults(),
        losses: counters::losses(&counts),
        settings: cluster.crew.settings(),
        recoveries,
        checks,
    }
}

/// Publishes messages that no fault meets.
async fn publish_last(cluster: &Cluster, ledger: &Arc<Ledger>, rng: Rng) -> Vec<Message> {
    let mut messages = Messages::new("last", rng);
    let messages: Vec<_> = (0..LAST_MESSAGES).map(|_| messages.next()).collect();
    let mut publisher = Publisher::new(&cluster.redis_url, Arc::clone(ledger));
    publisher.publish(&messages).await;
    messages
}

async fn carried(cluster: &Cluster, ledger: &Ledger) -> Carried {
    let mut stream = Stream::open(&cluster.redis_url).await;
    ledger.carried(stream.entries().await)
}
