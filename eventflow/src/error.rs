//! The error of everything that is not a handler: opening, reading, storing, configuring.
//!
//! What a *handler* answers is a [`Failure`](crate::Failure).

use std::fmt;

/// Any error that can cross threads, as in tower.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error is [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong, for code that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing, out of range, or clashes with another.
    Configuration,
    /// A table is missing, older than this version, or someone else's.
    Schema,
    /// The inbox's database refused a statement or could not be reached.
    Inbox,
    /// The outbox's database refused a statement or could not be reached.
    Outbox,
    /// The server refuses what was to be stored or published, and would again: a value that no column
    /// takes, an entry that is too large.
    Refused,
    /// The stream's server refused a command or could not be reached.
    Stream,
    /// An event cannot be written as an entry.
    Encode,
    /// A task of the consumer panicked; nothing is lost, but it has stopped.
    Consumer,
}

/// What went wrong, with the names involved, and its cause.
///
/// `Display` says what is wrong and what to do; the cause is in
/// [`source`](std::error::Error::source) and not repeated in the text.
pub struct Error {
    kind: ErrorKind,
    message: String,
    transient: bool,
    disconnected: bool,
    source: Option<BoxError>,
}

impl Error {
    /// Creates an error of `kind` without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            transient: false,
            disconnected: false,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Marks the error as one that passes by itself: a lost connection, a server that restarts.
    #[must_use]
    pub fn transient(mut self, transient: bool) -> Self {
        self.transient = transient;
        self
    }

    /// Marks the error as that of a connection that broke after something was sent on it.
    ///
    /// What was sent may be the reason: some servers close the connection on what is too large for them.
    #[must_use]
    pub fn disconnected(mut self, disconnected: bool) -> Self {
        self.disconnected = disconnected;
        self
    }

    /// The kind, for code that decides.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later with nothing changed but the weather.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Whether a connection broke after something was sent on it.
    pub fn is_disconnected(&self) -> bool {
        self.disconnected
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("transient", &self.transient)
            .field("disconnected", &self.disconnected)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Writes an error and its causes on one line, joined by `: `.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors print their cause as their own last words; saying it twice helps nobody.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_every_cause_once() {
        let inner = Error::new(ErrorKind::Inbox, "connection refused");
        let outer = Error::new(ErrorKind::Inbox, "claim failed").with_source(inner);

        assert_eq!(chain(&outer), "claim failed: connection refused");
    }

    #[test]
    fn chain_does_not_repeat_a_cause_that_is_already_printed() {
        let inner = Error::new(ErrorKind::Inbox, "refused");
        let outer = Error::new(ErrorKind::Inbox, "claim failed: refused").with_source(inner);

        assert_eq!(chain(&outer), "claim failed: refused");
    }
}
