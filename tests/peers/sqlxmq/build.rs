//! Joins the migrations that sqlxmq ships as files, and does not apply itself, into one schema.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let mut migrations = fs::read_dir(sources()?.join("migrations"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    migrations.retain(|path| path.to_string_lossy().ends_with(".up.sql"));
    migrations.sort();
    ensure!(!migrations.is_empty(), "sqlxmq has no migrations");

    let mut schema = String::new();
    for path in migrations {
        schema.push_str(&fs::read_to_string(path)?);
        schema.push_str(";\n");
    }
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    Ok(fs::write(folder.join("schema.sql"), schema)?)
}

/// The folder of sqlxmq's sources.
fn sources() -> Result<PathBuf> {
    let output = Command::new(env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
        ])
        .arg(env::var("TARGET")?)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "sqlxmq")
        .and_then(|package| package["manifest_path"].as_str())
        .context("sqlxmq is not among the packages")?;
    let folder = PathBuf::from(manifest);
    Ok(folder
        .parent()
        .context("a manifest has a folder")?
        .to_owned())
}
