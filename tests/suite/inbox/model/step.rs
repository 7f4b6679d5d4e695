//! The steps of a sequence, and how they are made up.

use eventflow::{
    Envelope,
    inbox::{Admission, Arrival, Due, Status},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::super::{arrival, arrival_of};

/// One of the leases or rows that there are, counted round and round.
pub(super) type Pick = usize;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Insert {
        consumer: usize,
        holder: usize,
        events: Vec<New>,
    },
    Claim {
        consumer: usize,
        holder: usize,
        due: Due,
        limit: u32,
    },
    /// Picks among all leases that were ever given, also those that moved on.
    Settle(Vec<(Pick, Next)>),
    Recover {
        consumer: usize,
        holder: usize,
    },
    Extend {
        holder: usize,
        picks: Vec<Pick>,
    },
    Release {
        picks: Vec<Pick>,
        later: bool,
    },
    Operate {
        consumer: usize,
        operation: Operation,
    },
    Pass(Passage),
}

/// What an operator does, and what the consumer does now and then.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Unpark(Option<&'static str>),
    Requeue(Vec<Pick>),
    Discard(Vec<Pick>),
    /// Up to so many rows.
    Purge(u32),
}

/// Time that passes for one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Passage {
    /// The lease of an owned row ends.
    Lapse(Pick),
    /// The time of a row that is scheduled for later comes.
    Elapse(Pick),
    /// A finished row gets older than its retention.
    Age(Pick),
}

/// An event that arrives. There are few ids, so that many are duplicates.
#[derive(Debug, Clone)]
pub(super) struct New {
    pub(super) event: u8,
    pub(super) event_type: &'static str,
    pub(super) enters: Status,
    pub(super) max_retries: i32,
}

/// What a settlement says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) status: Status,
    /// Whether a failed row runs in an hour, or at once.
    pub(super) later: bool,
}

/// The reason of an entry that could not be read.
pub(super) const MALFORMED: &str = "no `event_id`";

impl New {
    pub(super) fn event_id(&self) -> String {
        match self.enters {
            Status::DeadLetter => format!("malformed:{}", self.event),
            _ => format!("event-{}", self.event),
        }
    }

    pub(super) fn arrival(&self) -> Arrival {
        let envelope = arrival(&self.event_id()).envelope;
        let mut metadata = envelope.metadata().clone();
        self.event_type.clone_into(&mut metadata.event_type);
        let envelope = Envelope::from_parts(metadata, envelope.payload().clone());
        let mut arrival = arrival_of(envelope);
        arrival.max_retries = self.max_retries;
        arrival.admission = match self.enters {
            Status::Pending => Admission::Park,
            Status::DeadLetter => Admission::DeadLetter(MALFORMED.to_owned()),
            _ => Admission::Run,
        };
        arrival
    }
}

/// Sequences of steps; those that give rows something to do come more often.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let consumer = || prop_oneof![4 => Just(0_usize), 1 => Just(1)];
    let holder = || 0..2_usize;
    let step = prop_oneof![
        4 => (consumer(), holder(), vec(new(), 1..5)).prop_map(|(consumer, holder, events)| {
            Step::Insert { consumer, holder, events }
        }),
        4 => (consumer(), holder(), select(vec![Due::Now, Due::Later]), 0..4_u32).prop_map(
            |(consumer, holder, due, limit)| Step::Claim { consumer, holder, due, limit }
        ),
        6 => vec((pick(), next()), 1..5).prop_map(Step::Settle),
        4 => (consumer(), holder()).prop_map(|(consumer, holder)| Step::Recover { consumer, holder }),
        2 => (holder(), picks()).prop_map(|(holder, picks)| Step::Extend { holder, picks }),
        2 => (picks(), any::<bool>()).prop_map(|(picks, later)| Step::Release { picks, later }),
        6 => (consumer(), operation()).prop_map(|(consumer, operation)| {
            Step::Operate { consumer, operation }
        }),
        10 => passage().prop_map(Step::Pass),
    ];
    vec(step, 1..40)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => option::of(event_type()).prop_map(Operation::Unpark),
        2 => picks().prop_map(Operation::Requeue),
        1 => picks().prop_map(Operation::Discard),
        2 => (0..4_u32).prop_map(Operation::Purge),
    ]
}

fn passage() -> impl Strategy<Value = Passage> {
    prop_oneof![
        5 => pick().prop_map(Passage::Lapse),
        2 => pick().prop_map(Passage::Elapse),
        3 => pick().prop_map(Passage::Age),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    0..40_usize
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    vec(pick(), 1..5)
}

fn event_type() -> impl Strategy<Value = &'static str> {
    select(vec!["OrderPaid", "OrderShipped"])
}

fn new() -> impl Strategy<Value = New> {
    let enters = prop_oneof![
        6 => Just(Status::Processing),
        1 => Just(Status::Pending),
        1 => Just(Status::DeadLetter),
    ];
    (0..12_u8, event_type(), enters, -1..3_i32).prop_map(
        |(event, event_type, enters, max_retries)| New {
            event,
            event_type,
            enters,
            max_retries,
        },
    )
}

fn next() -> impl Strategy<Value = Next> {
    let status = prop_oneof![
        2 => Just(Status::Processed),
        3 => Just(Status::Failed),
        2 => Just(Status::DeadLetter),
        1 => Just(Status::Pending),
    ];
    (status, any::<bool>()).prop_map(|(status, later)| Next { status, later })
}
