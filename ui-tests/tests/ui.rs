//! What the compiler says, word for word, and that the nearest legal program says nothing.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p eventflow-ui-tests`, and read
//! the difference as a user would.

use std::{collections::BTreeSet, ffi::OsString, fs, io, path::Path};

const PARTS: [&str; 5] = ["event", "event_set", "handler", "router", "classify"];

/// The names of the programs in a folder.
fn programs(folder: &str) -> io::Result<BTreeSet<OsString>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut programs = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            programs.extend(path.file_stem().map(ToOwned::to_owned));
        }
    }
    Ok(programs)
}

#[test]
fn every_mistake_has_its_nearest_legal_twin() -> io::Result<()> {
    for part in PARTS {
        let mistakes = programs(&format!("{part}/fail"))?;
        let twins = programs(&format!("{part}/pass"))?;
        let lonely: Vec<_> = mistakes.difference(&twins).collect();
        assert!(lonely.is_empty(), "{part}/pass lacks {lonely:?}");
    }
    Ok(())
}

#[test]
fn legal_programs_compile_and_run() {
    let cases = trybuild::TestCases::new();
    for part in PARTS {
        cases.pass(format!("{part}/pass/*.rs"));
    }
}

#[rustversion::attr(not(stable(1.95)), ignore = "golden files are for rustc 1.95")]
#[test]
fn messages() {
    let cases = trybuild::TestCases::new();
    for part in PARTS {
        cases.compile_fail(format!("{part}/fail/*.rs"));
    }
}
