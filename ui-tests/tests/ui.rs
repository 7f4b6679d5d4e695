//! What the compiler says, word for word, and that the nearest legal program says nothing.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p eventflow-ui-tests`, and read
//! the difference as a user would.

#[rustversion::attr(not(stable(1.95)), ignore = "golden files are for rustc 1.95")]
#[test]
fn messages() {
    let cases = trybuild::TestCases::new();
    for part in ["event", "event_set", "handler", "router", "classify"] {
        cases.pass(format!("{part}/pass/*.rs"));
        cases.compile_fail(format!("{part}/fail/*.rs"));
    }
}
