//! The documentation's table of guarantees has each row, and names each row's tests.

use std::{collections::BTreeSet, fs, path::Path};

const TABLE: &str = include_str!("../../../eventflow/src/docs/guarantees.md");

const ROWS: &str = "K1 K2 K3 K4 K5 K6 K7 K8 K9 R1 R2 R3 R4 R5 R6 R7 P1 P2 P3 P4 P5 P6 P7 S1 C1 D1 D2 D3 N1 M1 M2 M3 M4 M5 M6 M7 M8 H1 H2 H3 H4 H5 H6 H7 G1 G2 G3 B1 B2";

/// The row that a test is named for, as `K3` of `k3_killed_after_commit_before_ack`.
fn row_of(test: &str) -> Option<String> {
    let (row, rest) = test.split_once('_')?;
    let mut letters = row.chars();
    let is_row = letters
        .next()
        .is_some_and(|letter| letter.is_ascii_lowercase())
        && !letters.as_str().is_empty()
        && letters.all(|digit| digit.is_ascii_digit());
    (is_row && !rest.is_empty()).then(|| row.to_uppercase())
}

/// The suite's tests in these folders.
fn tests(folders: &[&str]) -> BTreeSet<String> {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite");
    let folders = folders.iter().map(|folder| suite.join(folder));
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources = files.map(|path| fs::read_to_string(path).unwrap());
    let mut tests = BTreeSet::new();
    for source in sources {
        let names = of_macros(&source).chain(with_attribute(&source));
        tests.extend(names.map(str::to_owned));
    }
    tests
}

/// The functions in lists of macros that make tests of cases.
fn of_macros(source: &str) -> impl Iterator<Item = &str> {
    const MACROS: [&str; 5] = [
        "on_every_database!(",
        "on_postgres!(",
        "owned_at_birth!(",
        "owned_at_birth_on_postgres!(",
        "on_each_shared_database!(",
    ];

    let lists = MACROS
        .into_iter()
        .flat_map(|each| source.split(each).skip(1));
    let lists = lists.filter_map(|list| list.split(");").next());
    lists
        .flat_map(|list| list.split([',', '\n']))
        .map(str::trim)
}

/// The functions with `#[test]` or `#[tokio::test]`.
fn with_attribute(source: &str) -> impl Iterator<Item = &str> {
    let attributes = ["#[test]", "#[tokio::test"];
    let starts = attributes.map(|attribute| source.match_indices(attribute));
    let tests = starts.into_iter().flatten();
    tests.filter_map(|(start, _)| {
        let (_, function) = source.get(start..)?.split_once("fn ")?;
        function.split(['<', '(']).next()
    })
}

/// Each row of the table, with what its last cell names.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let cells = TABLE.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = cells.filter_map(|line| {
        let (row, rest) = line.split_once(" |")?;
        let is_row = ROWS.split(' ').any(|each| each == row);
        if !is_row {
            return None;
        }
        let shown_by = rest.trim_end_matches([' ', '|']).rsplit(" | ").next()?;
        let names = shown_by.split('`').skip(1).step_by(2);
        Some((row.to_owned(), names.map(str::to_owned).collect()))
    });
    rows.collect()
}

#[test]
fn every_row_is_there_with_its_tests() {
    let rows: Vec<_> = table().into_iter().map(|(row, _)| row).collect();
    assert_eq!(rows.join(" "), ROWS);
    for (row, tests) in table() {
        assert!(!tests.is_empty(), "row {row} names no test");
        for test in tests {
            let its_row = row_of(&test).unwrap_or_else(|| row.clone());
            assert_eq!(its_row, row, "{test} stands in row {row}");
        }
    }
}

#[test]
fn every_test_that_is_named_exists_and_is_named() {
    let named: BTreeSet<_> = table().into_iter().flat_map(|(_, tests)| tests).collect();
    let tests = tests(&["faults", "publishing", "relay", "consumer"]);
    let missing: Vec<_> = named.difference(&tests).collect();
    let of_rows = tests.iter().filter(|test| row_of(test).is_some());
    let unnamed: Vec<_> = of_rows.filter(|test| !named.contains(*test)).collect();
    assert!(
        missing.is_empty(),
        "the table names tests that are not there: {missing:?}"
    );
    assert!(
        unnamed.is_empty(),
        "the table leaves out tests: {unnamed:?}"
    );
}
