//! Where this program's sources are, and what was built of them.

use std::path::{Path, PathBuf};

use crate::Result;

/// The root of the repository that this program was built from.
pub(crate) fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.unwrap_or(Path::new(".")).to_owned()
}

/// The folder that Cargo builds into.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2);
    Ok(folder.ok_or("this program lies in no folder")?.to_owned())
}
