//! Order per aggregate: which place an event gets behind those of its aggregate, the same in both
//! databases.
//!
//! An event in order has a position, which grows with each arrival. Of the events of an aggregate that
//! are not done, at most one may run; the others wait for their turn, out of the sight of a claim. Who
//! ends an event passes the turn on, in the same transaction. What comes with it in SQL is the part of
//! the databases.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::{Admission, Arrival};
use crate::envelope::wire::MALFORMED;

/// How many arrivals at most are placed at once.
const AT_ONCE: i64 = 10_000;

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

/// What the table says about the events and the aggregates of arrivals.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Grows with each look.
    pub(crate) number: i64,
    /// The events that are there already.
    pub(crate) known: HashSet<String>,
    /// The aggregates with an event that is not done.
    pub(crate) busy: HashSet<Uuid>,
    /// The aggregates that a dead letter holds up, and the first such event.
    pub(crate) held: HashMap<Uuid, String>,
}

/// Until when a row waits that does not run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It does not.
    Not,
    /// For ever, unless someone says otherwise; a dead letter that holds nobody up has it too.
    Parked,
    /// Until the one before it passes the turn on; a dead letter that another one has made has it too.
    Turn,
}

/// An arrival with its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) arrival: Arrival,
    /// Zero if it has no place.
    pub(crate) position: i64,
    pub(crate) wait: Wait,
}

/// Gives arrivals their places; those whose events are known are left out.
pub(crate) fn place(
    arrivals: &[Arrival],
    policy: OrderPolicy,
    mut standing: Standing,
) -> Vec<Placed> {
    let mut placed = Vec::with_capacity(arrivals.len());
    for (arrival, place) in arrivals.iter().zip(0..) {
        let event_id = &arrival.envelope.metadata().event_id;
        if standing.known.insert(event_id.clone()) {
            let position = standing.number * AT_ONCE + place;
            placed.push(standing.place(arrival.clone(), position, policy));
        }
    }
    placed
}

impl Standing {
    fn place(&mut self, arrival: Arrival, position: i64, policy: OrderPolicy) -> Placed {
        let metadata = arrival.envelope.metadata();
        if metadata.event_id.starts_with(MALFORMED) {
            // Whose it is cannot be read.
            return Placed {
                arrival,
                position: 0,
                wait: Wait::Not,
            };
        }
        let aggregate = metadata.aggregate_id;
        let (admission, wait) = match (&arrival.admission, self.held.get(&aggregate)) {
            (Admission::DeadLetter(_), _) if policy == OrderPolicy::Skip => {
                (arrival.admission.clone(), Wait::Parked)
            }
            (Admission::DeadLetter(_), held) => {
                if held.is_none() {
                    self.held.insert(aggregate, metadata.event_id.clone());
                }
                (arrival.admission.clone(), Wait::Not)
            }
            (Admission::Park, _) => {
                self.busy.insert(aggregate);
                (Admission::Park, Wait::Parked)
            }
            (Admission::Run | Admission::Wait, Some(head)) if policy == OrderPolicy::Park => {
                (Admission::DeadLetter(parked_behind(head)), Wait::Turn)
            }
            (Admission::Run | Admission::Wait, Some(_)) => (Admission::Wait, Wait::Turn),
            (Admission::Run | Admission::Wait, None) => {
                if self.busy.insert(aggregate) {
                    (arrival.admission.clone(), Wait::Not)
                } else {
                    (Admission::Wait, Wait::Turn)
                }
            }
        };
        Placed {
            arrival: Arrival {
                admission,
                ..arrival
            },
            position,
            wait,
        }
    }
}

/// Why an event is a dead letter that never ran. In SQL, the head is an expression between two quotes.
pub(crate) fn parked_behind(head: &str) -> String {
    format!("parked behind event `{head}` of its aggregate, which is a dead letter")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Metadata, Payload};

    fn arrival(event_id: &str, aggregate: u128, admission: Admission) -> Arrival {
        let metadata = Metadata {
            aggregate_id: Uuid::from_u128(aggregate),
            ..Metadata::of(event_id)
        };
        Arrival {
            id: Uuid::now_v7(),
            envelope: Envelope::from_parts(metadata, Payload::empty()),
            raw: None,
            admission,
            max_retries: 3,
        }
    }

    fn unknown() -> Admission {
        Admission::DeadLetter("no handler".to_owned())
    }

    /// The events that enter, with what they enter as and what they wait for.
    fn placed(
        arrivals: &[Arrival],
        policy: OrderPolicy,
        standing: Standing,
    ) -> Vec<(String, Admission, Wait)> {
        let placed = place(arrivals, policy, standing);
        assert!(placed.iter().map(|placed| placed.position).is_sorted());
        let entering = placed.into_iter().map(|placed| {
            let event_id = placed.arrival.envelope.metadata().event_id.clone();
            (event_id, placed.arrival.admission, placed.wait)
        });
        entering.collect()
    }

    fn entry(event_id: &str, admission: Admission, wait: Wait) -> (String, Admission, Wait) {
        (event_id.to_owned(), admission, wait)
    }

    #[test]
    fn one_event_of_an_aggregate_runs_and_the_others_wait() {
        let arrivals = [
            arrival("a1", 1, Admission::Run),
            arrival("b1", 2, Admission::Run),
            arrival("a2", 1, Admission::Run),
            arrival("c1", 3, Admission::Wait),
            arrival("a1", 1, Admission::Run),
            arrival("d2", 4, Admission::Run),
        ];
        let standing = Standing {
            known: HashSet::from(["d2".to_owned()]),
            busy: HashSet::from([Uuid::from_u128(3)]),
            ..Standing::default()
        };

        assert_eq!(
            placed(&arrivals, OrderPolicy::Block, standing),
            [
                entry("a1", Admission::Run, Wait::Not),
                entry("b1", Admission::Run, Wait::Not),
                entry("a2", Admission::Wait, Wait::Turn),
                entry("c1", Admission::Wait, Wait::Turn),
            ]
        );
    }

    #[test]
    fn a_dead_letter_means_what_the_policy_says() {
        let arrivals = [
            arrival("a1", 1, unknown()),
            arrival("a2", 1, Admission::Run),
            arrival("b2", 2, Admission::Run),
        ];
        let standing = || Standing {
            held: HashMap::from([(Uuid::from_u128(2), "b1".to_owned())]),
            ..Standing::default()
        };

        let of = |policy| placed(&arrivals, policy, standing());

        assert_eq!(
            of(OrderPolicy::Block),
            [
                entry("a1", unknown(), Wait::Not),
                entry("a2", Admission::Wait, Wait::Turn),
                entry("b2", Admission::Wait, Wait::Turn),
            ]
        );
        assert_eq!(
            of(OrderPolicy::Skip),
            [
                entry("a1", unknown(), Wait::Parked),
                entry("a2", Admission::Run, Wait::Not),
                entry("b2", Admission::Wait, Wait::Turn),
            ]
        );
        let behind = |head| Admission::DeadLetter(parked_behind(head));
        assert_eq!(
            of(OrderPolicy::Park),
            [
                entry("a1", unknown(), Wait::Not),
                entry("a2", behind("a1"), Wait::Turn),
                entry("b2", behind("b1"), Wait::Turn),
            ]
        );
    }

    #[test]
    fn what_is_left_for_a_later_deploy_keeps_its_place_and_what_cannot_be_read_has_none() {
        let arrivals = [
            arrival("malformed:orders/1-0", 0, unknown()),
            arrival("a1", 0, Admission::Park),
            arrival("a2", 0, Admission::Run),
        ];
        let standing = Standing {
            number: 7,
            ..Standing::default()
        };

        let placed = place(&arrivals, OrderPolicy::Block, standing);

        let seen: Vec<_> = placed.iter().map(|p| (p.position, p.wait)).collect();
        assert_eq!(
            seen,
            [(0, Wait::Not), (70_001, Wait::Parked), (70_002, Wait::Turn)]
        );
    }

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
