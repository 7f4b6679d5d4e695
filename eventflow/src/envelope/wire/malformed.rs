//! Why an entry holds no readable event.

use std::fmt;

/// How many characters of a value a message shows.
const SHOWN_CHARS: usize = 40;

/// An entry that holds no readable event; its text is the reason that the dead letter keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    field: Option<&'static str>,
    reason: String,
}

impl Malformed {
    pub(super) fn entry(reason: impl Into<String>) -> Self {
        Self {
            field: None,
            reason: reason.into(),
        }
    }

    pub(super) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            reason: reason.into(),
        }
    }

    /// The field, or the member of `data`, that is wrong; `None` if it is the entry as a whole.
    pub fn field_name(&self) -> Option<&'static str> {
        self.field
    }

    /// What is wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "field `{field}`: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Malformed {}

/// Quotes a value for a message: cut, and with its control characters escaped.
pub(super) fn quoted(value: &str) -> String {
    let mut shown = String::from("`");
    let mut chars = value.chars();
    for character in chars.by_ref().take(SHOWN_CHARS) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown.push('`');
    shown
}
