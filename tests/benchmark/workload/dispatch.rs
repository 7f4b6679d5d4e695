//! How long it takes to find and call a handler: the medians of the micro benchmark `dispatch`.

use tokio::process::Command;

use crate::{
    Result,
    bench::Bench,
    line::{Goal, Line},
    load::Load,
    repository::repository,
};

/// What decoding alone takes is not dispatch.
const DECODE: &str = "decode";

/// The benchmark of a whole call, over so many event types.
const CALLS: [(&str, &str); 2] = [("dispatch", "1"), ("dispatch", "500")];

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let (mut runs, mut foreign) = (Vec::new(), Vec::new());
    for run in 1..=bench.runs {
        let message = format!("dispatch alone, run {run} of {}", bench.runs);
        bench.progress.say(message);
        let load = Load::start()?;
        runs.push(run_micro_benchmark().await?);
        foreign.push(load.shares()?.foreign);
    }
    let lines = CALLS.iter().enumerate().map(|(call, (_, types))| {
        let metric = format!("dispatch over {types} event types, without decoding");
        let times = runs.iter().filter_map(|times| times.get(call).copied());
        let line = Line::new("W8", metric, "ns", times);
        line.goal(Goal::AtMost(100.0))
            .foreign(foreign.iter().copied())
    });
    Ok(lines.collect())
}

/// The nanoseconds of each of the [`CALLS`], without decoding.
async fn run_micro_benchmark() -> Result<[f64; CALLS.len()]> {
    let output = Command::new("cargo")
        .args([
            "bench",
            "--locked",
            "--package",
            "eventflow",
            "--bench",
            "dispatch",
        ])
        .current_dir(repository())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the micro benchmark failed:\n{errors}").into());
    }
    let medians = medians(&String::from_utf8(output.stdout)?);
    let median = |is_it: &dyn Fn(&[String]) -> bool, what: &str| {
        let found = medians.iter().find(|(path, _)| is_it(path));
        let median = found.map(|(_, nanoseconds)| *nanoseconds);
        median.ok_or_else(|| format!("the micro benchmark has no `{what}`"))
    };
    let decode = median(&|path| path.ends_with(&[DECODE.to_owned()]), DECODE)?;
    let mut times = [0.0; CALLS.len()];
    for (time, (group, types)) in times.iter_mut().zip(CALLS) {
        *time = median(&|path| path == [group, types], types)? - decode;
    }
    Ok(times)
}

/// The medians of divan's table in nanoseconds, each by the last two names that lead to it.
fn medians(table: &str) -> Vec<(Vec<String>, f64)> {
    let mut group = String::new();
    let mut medians = Vec::new();
    for line in table.lines() {
        let mut columns = line.split(" │ ");
        let first = columns.next().unwrap_or_default();
        let first = first.trim_start_matches(|letter: char| !letter.is_alphanumeric());
        let Some(name) = first.split_whitespace().next() else {
            continue;
        };
        match columns.nth(1).and_then(nanoseconds) {
            Some(median) => medians.push((vec![group.clone(), name.to_owned()], median)),
            None => name.clone_into(&mut group),
        }
    }
    medians
}

/// Reads a time such as `12.3 ns`.
fn nanoseconds(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    match words.next()? {
        "ns" => Some(number),
        "µs" => Some(number * 1e3),
        "ms" => Some(number * 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medians_are_read_by_their_names() {
        let table = "\
dispatch       fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ decode      101.2 ns      │ 201.2 ns      │ 102.5 ns      │ 103 ns        │ 100     │ 1600
╰─ dispatch                  │               │               │               │         │
   ├─ 1        150 ns        │ 1.2 µs        │ 160.5 ns      │ 170 ns        │ 100     │ 1600
   ╰─ 500      150 ns        │ 1.2 µs        │ 1.5 µs        │ 170 ns        │ 100     │ 1600
";

        let medians = medians(table);

        let path = |group: &str, name: &str| vec![group.to_owned(), name.to_owned()];
        assert_eq!(
            medians,
            [
                (path("dispatch", "decode"), 102.5),
                (path("dispatch", "1"), 160.5),
                (path("dispatch", "500"), 1500.0),
            ]
        );
    }
}
