//! How long the compiler takes for a crate of many events and handlers, beside the same structs with
//! serde's derives alone.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    Result,
    bench::Bench,
    line::{Goal, Line},
    load::Load,
    repository::{repository, target},
};

/// How many events there are, each with a handler.
const EVENTS: u32 = 500;

/// The crate with events and handlers, and the one with the structs alone.
const TYPED: &str = "typed-events";
const PLAIN: &str = "plain-structs";

/// The compiler is asked as a developer asks it, but for the whole crate each time.
const PROFILE: [(&str, &str); 1] = [("CARGO_INCREMENTAL", "0")];

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    bench
        .progress
        .say("checking the dependencies of 500 handlers");
    let crates = Crates::generate()?;
    crates.check(&["--workspace"]).await?;

    let load = Load::start()?;
    let mut pairs = Vec::new();
    for run in 1..=bench.runs {
        let message = format!("checking {EVENTS} handlers, run {run} of {}", bench.runs);
        bench.progress.say(message);
        let plain = crates.check_again(PLAIN).await?;
        let typed = crates.check_again(TYPED).await?;
        pairs.push((typed, plain));
    }
    let metric = format!("check of {EVENTS} events and handlers: to serde's derives");
    let line = Line::beside("W9", metric, "s", pairs)
        .goal(Goal::RatioAtMost(2.0))
        .foreign([load.shares()?.foreign]);
    Ok(vec![line])
}

/// A workspace of both crates.
struct Crates {
    folder: TempDir,
    target: PathBuf,
}

impl Crates {
    fn generate() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("eventflow-bench-")
            .tempdir()?;
        let root = folder.path();
        let workspace =
            format!("[workspace]\nmembers = [\"{TYPED}\", \"{PLAIN}\"]\nresolver = \"3\"\n");
        fs::write(root.join("Cargo.toml"), workspace)?;
        // The versions that the dependencies have in this repository.
        fs::copy(repository().join("Cargo.lock"), root.join("Cargo.lock"))?;
        write_crate(root, PLAIN, "", &plain()?)?;
        let eventflow = format!(
            "eventflow = {{ path = \"{}\", default-features = false, features = [\"macros\", \"postgres\"] }}\n",
            repository().join("eventflow").display()
        );
        write_crate(root, TYPED, &eventflow, &typed()?)?;
        Ok(Self {
            target: target()?.join("bench-build"),
            folder,
        })
    }

    /// Checks a crate whose dependencies have been checked; answers how many seconds that took.
    async fn check_again(&self, name: &str) -> Result<f64> {
        let source = self.folder.path().join(name).join("src/lib.rs");
        fs::File::options()
            .append(true)
            .open(source)?
            .set_modified(std::time::SystemTime::now())?;
        let begun = Instant::now();
        self.check(&["--package", name]).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn check(&self, what: &[&str]) -> Result<()> {
        let output = Command::new("cargo")
            .args(["check", "--offline", "--quiet"])
            .args(what)
            .current_dir(self.folder.path())
            .env("CARGO_TARGET_DIR", &self.target)
            .envs(PROFILE)
            .kill_on_drop(true)
            .output()
            .await?;
        if output.status.success() {
            Ok(())
        } else {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("the generated crates are not accepted:\n{errors}").into())
        }
    }
}

fn write_crate(root: &Path, name: &str, dependency: &str, source: &str) -> Result<()> {
    let folder = root.join(name);
    fs::create_dir_all(folder.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\
         serde = {{ version = \"1\", features = [\"derive\"] }}\nuuid = {{ version = \"1\", features = [\"serde\"] }}\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    Ok(fs::write(folder.join("src/lib.rs"), source)?)
}

/// The fields of every event.
const FIELDS: &str =
    "pub order_id: Uuid, pub sku: String, pub quantity: u32, pub note: Option<String>";

fn plain() -> Result<String> {
    let mut source = "use serde::{Deserialize, Serialize};\nuse uuid::Uuid;\n".to_owned();
    for number in 0..EVENTS {
        writeln!(
            source,
            "#[derive(Debug, Serialize, Deserialize)]\npub struct Event{number} {{ {FIELDS} }}"
        )?;
    }
    Ok(source)
}

fn typed() -> Result<String> {
    let mut source = "use eventflow::prelude::*;\n".to_owned();
    let mut variants = String::new();
    let mut handlers = String::new();
    for number in 0..EVENTS {
        writeln!(
            source,
            "#[derive(Debug, Serialize, Deserialize, Event)]
            pub struct Event{number} {{ #[event(aggregate_id)] {FIELDS} }}
            #[handler]
            pub async fn handle_{number}(event: Event{number}, tx: &mut PgConnection) -> Result<(), Failure> {{
                _ = (event, tx);
                Ok(())
            }}"
        )?;
        write!(variants, "Event{number}(Event{number}), ")?;
        write!(handlers, "handle_{number}, ")?;
    }
    writeln!(
        source,
        "#[derive(Debug, EventSet)]\npub enum Events {{ {variants} }}
        #[router(events = Events, handlers({handlers}))]\npub struct Service;"
    )?;
    Ok(source)
}
