//! The end-to-end benchmark: each goal is a ratio to a bare loop, or to a peer, of the same run.
//!
//! Postgres and Redis are private servers of this program. What is measured runs in processes of its
//! own, which this program starts from its own file, so that their CPU time and memory are theirs.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the table is for whoever runs it, a process under measure answers by its output"
)]

mod bare;
mod bench;
mod engine;
mod event;
mod figures;
mod job;
mod line;
mod load;
mod machine;
mod peers;
mod progress;
mod repository;
mod service;
mod site;
mod table;
mod trickle;
mod usage;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use self::{bench::Bench, machine::Machine, peers::Peers, workload::Workload};

/// Whatever fails is told to whoever runs the benchmark.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures EventFlow against the loop that a programmer would write by hand.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these workloads, as in `W1,W2`.
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    only: Vec<Workload>,
    /// Also measures what others have for the same work; installs it first.
    #[arg(long)]
    peers: bool,
    /// Writes the table's lines to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many events wait in the stream.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    events: u32,
    /// How often each is measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Does a job, written as JSON, in this process, and prints what came of it.
    #[arg(long, hide = true)]
    job: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran = match &arguments.job {
        Some(job) => job::answer(job).await,
        None => bench(&arguments).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let workloads = if arguments.only.is_empty() {
        Workload::value_variants().to_vec()
    } else {
        arguments.only.clone()
    };
    let peers = if arguments.peers {
        Some(Peers::build().await?)
    } else {
        None
    };
    let bench = Bench::start(arguments.events, arguments.runs, workloads.len(), peers).await?;
    println!("{}", Machine::look(&bench.servers).await?);
    println!("{} events, medians of {} runs\n", bench.events, bench.runs);

    let (mut lines, mut failed) = (Vec::new(), Ok(()));
    for workload in workloads {
        match workload.measure(&bench).await {
            Ok(measured) => lines.extend(measured),
            // What was measured before it is worth its minutes.
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
        bench.progress.end();
    }
    bench.progress.clear();

    print!("{}", table::Table(&lines));
    if let Some(file) = &arguments.json {
        std::fs::write(file, table::json(&lines)?)?;
    }
    failed
}

/// An error with what led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
