//! The README shows what the code says.

use eventflow::PgInbox;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_schema_is_the_one_that_migrate_creates() {
    assert!(README.contains(PgInbox::schema_sql().trim()));
}

#[test]
fn the_compile_error_is_the_golden_one() {
    let golden = include_str!("../../../ui-tests/router/fail/event_without_a_handler.stderr");
    // The first part, up to the note; the file and the line are the reader's.
    let shown: Vec<&str> = golden
        .lines()
        .take_while(|line| !line.starts_with("help:"))
        .map(|line| line.split_once(" | ").map_or(line, |(_, code)| code))
        .filter(|line| !line.contains("-->"))
        .collect();

    assert!(shown.len() > 4, "{shown:?}");
    let mut rest = README;
    for line in shown {
        let (_, after) = rest.split_once(line.trim_end()).expect(line);
        rest = after;
    }
    assert!(rest.starts_with("\nhelp: …\n```"), "{rest}");
}
