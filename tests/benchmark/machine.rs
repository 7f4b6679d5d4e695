//! What the figures were measured on.

use std::{fmt, process::Command, thread::available_parallelism};

use crate::{Result, bench::Servers};

const LOCK: &str = include_str!("../../Cargo.lock");

#[derive(Debug)]
pub(crate) struct Machine(Vec<(&'static str, String)>);

impl Machine {
    pub(crate) async fn look(servers: &Servers) -> Result<Self> {
        let cpu = value("/proc/cpuinfo", "model name")?;
        let memory = value("/proc/meminfo", "MemTotal")?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let rustc = Command::new("rustc").arg("--version").output()?.stdout;
        let crates = ["sqlx", "redis", "tokio"].map(|name| format!("{name} {}", version(name)));
        Ok(Self(vec![
            ("CPU", format!("{} × {cpu}", available_parallelism()?)),
            ("memory", memory),
            ("kernel", kernel.trim().to_owned()),
            ("compiler", String::from_utf8(rustc)?.trim().to_owned()),
            ("crates", crates.join(", ")),
            ("Postgres", servers.postgres_version().await?),
            ("Redis", servers.redis_version().await?),
        ]))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            writeln!(f, "{name:<10}{value}")?;
        }
        Ok(())
    }
}

/// The first value of this name in a file of lines such as `name : value`.
fn value(file: &str, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(file)?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    Ok(value.unwrap_or_else(|| "unknown".to_owned()))
}

/// The version of a crate that this program was built with.
fn version(name: &str) -> &'static str {
    let package = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""));
    let version = package.and_then(|(_, rest)| rest.split_once('"'));
    version.map_or("unknown", |(version, _)| version)
}
