//! SQLite: its clock, the values that it gives and takes, and the connections to a file.

pub(crate) mod history;
pub(crate) mod lease;
pub(crate) mod place;
pub(crate) mod values;

/// The database's clock in microseconds.
pub(crate) const NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";
