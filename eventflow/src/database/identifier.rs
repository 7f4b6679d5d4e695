//! Names of schemas, tables and indexes: the only place where a name enters SQL.

use std::fmt;

use crate::error::Error;

/// The longest name: leaves room for the prefixes and suffixes of index names in Postgres's 63.
const MAX_LENGTH: usize = 48;

/// A name that may stand in SQL: `[a-z_][a-z0-9_]{0,47}`.
///
/// `Display` prints it in double quotes, so that it is never taken for a keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifier(String);

impl Identifier {
    /// Takes a name that a user gave for `what`.
    pub(crate) fn new(what: &str, name: &str) -> Result<Self, Error> {
        let mut characters = name.bytes();
        let starts_well = matches!(characters.next(), Some(b'a'..=b'z' | b'_'));
        let goes_on_well =
            characters.all(|character| matches!(character, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if starts_well && goes_on_well && name.len() <= MAX_LENGTH {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::configuration(format!(
                "{what} {name:?} is not a name that a table takes; use at most {MAX_LENGTH} of a-z, 0-9 and _, and no digit first"
            )))
        }
    }

    /// Takes a name that this crate gives.
    pub(crate) fn constant(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name without quotes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the names of a table's indexes and constraints in their places: each is a kind and what it is
    /// of, as `ix_due`.
    pub(crate) fn name_indexes(&self, sql: String, names: &[&str]) -> String {
        names.iter().fold(sql, |sql, place| {
            let (kind, of) = place.split_once('_').unwrap_or((place, ""));
            let name = format!("\"{kind}_{}_{of}\"", self.0);
            sql.replace(&format!("{{{place}}}"), &name)
        })
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printed_in_quotes() {
        let table = Identifier::new("table", "order").unwrap();

        assert_eq!(table.to_string(), "\"order\"");
    }

    #[test]
    fn names_that_could_leave_their_quotes_are_refused() {
        let long = "a".repeat(MAX_LENGTH + 1);

        for name in [
            "", "1a", "Inbox", "a-b", "a b", "a\"b", "a;b", "a.b", "é", &long,
        ] {
            assert!(
                Identifier::new("table", name).is_err(),
                "{name:?} was taken"
            );
        }
    }

    #[test]
    fn the_longest_name_is_taken() {
        assert!(Identifier::new("table", &"a".repeat(MAX_LENGTH)).is_ok());
    }
}
