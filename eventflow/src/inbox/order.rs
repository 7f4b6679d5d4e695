//! Order per aggregate: what is asked of an inbox, and who may read.
//!
//! An event in order has a position, which grows with each arrival. Of the events of an aggregate that
//! are not done, at most one may run; the others wait for their turn, out of the sight of a claim. Who
//! ends an event passes the turn on, in the same transaction. Which place an arrival gets is `place`'s
//! part, and what comes with it in SQL that of the databases.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Arrival, Holder, Insertion, sealed::Sealed};
use crate::error::Error;

/// What becomes of the later events of an aggregate when one of its events is a dead letter.
///
/// While an event waits for its next run, the later ones of its aggregate wait, whatever the policy. It
/// applies to events that become dead letters from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OrderPolicy {
    /// They wait until it is requeued, which runs it first, or discarded.
    #[default]
    Block,
    /// They go on. Once it is requeued, it runs as the next one of its aggregate.
    Skip,
    /// They become dead letters as well, with no run and a reason that names its event id: those that
    /// wait, and those that arrive until it is requeued or discarded. Requeued with it, they run in
    /// their order.
    Park,
}

/// That an inbox keeps the order.
#[derive(Debug, Clone)]
pub struct Order {
    /// What a dead letter means for the events behind it.
    pub policy: OrderPolicy,
    /// Told when a turn was passed on, so that a row is due.
    pub passed: Arc<Notify>,
}

/// The right to read streams, which one process has at a time: for each, the name of a lease and its
/// term. What is inserted under a term that is over is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderLease {
    pub(crate) names: Vec<String>,
    pub(crate) terms: Vec<i64>,
}

/// The part of an [`Inbox`](super::Inbox) that keeps the order of each aggregate's events. Sealed, as it is.
///
/// # Cancel safety
/// As [`Inbox`](super::Inbox).
pub trait OrderedInbox: Sealed + Send + Sync {
    /// The same inbox, which keeps the order of each aggregate's events: whoever settles an event passes
    /// the turn on to the next one, in the same transaction.
    #[must_use]
    fn in_order(&self, order: Order) -> Self;

    /// Takes the right to read streams for as long as a lease of the holder lasts; `None` if another
    /// process has it for one of them.
    fn acquire_reading(
        &self,
        holder: &Holder,
        streams: &[Arc<str>],
    ) -> impl Future<Output = Result<Option<ReaderLease>, Error>> + Send;

    /// Extends the right to read; answers whether it was still the holder's.
    fn extend_reading(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Gives up the right to read, for others to take at once.
    fn release_reading(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// As [`Inbox::insert`](super::Inbox::insert), each event behind those of its aggregate: one that cannot run yet
    /// waits for its turn. `None` if the right to read has gone to another process: nothing is stored.
    fn insert_in_order(
        &self,
        holder: &Holder,
        reader: &ReaderLease,
        arrivals: Vec<Arrival>,
    ) -> impl Future<Output = Result<Option<Insertion>, Error>> + Send;

    /// Passes on the turns that nobody has: where rows were changed or deleted past the inbox, or by a
    /// consumer that keeps no order. Answers how many rows are due by it.
    fn pass_turns(&self, consumer: &str) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Makes all rows due that wait for their turn: for a consumer that keeps no order. Answers how
    /// many.
    fn leave_order(&self, consumer: &str) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// The longest name of a lease.
const LONGEST_NAME: usize = 255;

impl ReaderLease {
    /// The names of the leases of a consumer's streams, in the order in which they are taken; `None` if
    /// one is too long.
    pub(crate) fn names(consumer: &str, streams: &[Arc<str>]) -> Option<Vec<String>> {
        let names = streams
            .iter()
            .map(|stream| format!("read {} for {}", quoted(stream), quoted(consumer)));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        let fit = names
            .iter()
            .all(|name| name.chars().count() <= LONGEST_NAME);
        fit.then_some(names)
    }
}

/// A text between quotes. Which of its characters are escaped is fixed here, so that processes of
/// different builds have the same names; a zero byte is one that Postgres does not take.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{}\"", text.replace('\0', r"\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_two_leases_differ() {
        let of = |consumer: &str, stream: &str| {
            ReaderLease::names(consumer, &[Arc::from(stream)]).unwrap()
        };

        assert_ne!(of("a\" for \"b", "c"), of("c", "b\" for \"a"));
        assert_ne!(of("a", "b"), of("b", "a"));
        assert_ne!(of("a", "\0"), of("a", r"\0"));
        assert_eq!(
            of("a\"b\\", "ü\u{301}\u{200b}\0"),
            ["read \"ü\u{301}\u{200b}\\0\" for \"a\\\"b\\\\\""]
        );
        assert_eq!(ReaderLease::names(&"a".repeat(255), &[]), Some(Vec::new()));
        assert_eq!(
            ReaderLease::names(&"a".repeat(255), &[Arc::from("b")]),
            None
        );
    }
}
