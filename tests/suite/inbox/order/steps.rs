//! What is done to the inbox.

use eventflow::inbox::Status;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Aggregates, and whether their event is of a known type.
    Insert(Vec<(usize, Kind)>),
    Claim(u32),
    Settle(usize, Status),
    Release(usize),
    Requeue(Vec<usize>),
    Discard(usize),
    Unpark,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Run,
    Wait,
    Unknown,
    Left,
    /// Its event is there already, or comes twice.
    Again(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(Kind::Run),
        2 => Just(Kind::Wait),
        1 => Just(Kind::Unknown),
        1 => Just(Kind::Left),
        1 => any::<usize>().prop_map(Kind::Again),
    ];
    let status = prop_oneof![
        4 => Just(Status::Processed),
        2 => Just(Status::Failed),
        2 => Just(Status::DeadLetter),
        1 => Just(Status::Pending),
    ];
    prop_oneof![
        3 => proptest::collection::vec((0_usize..3, kind), 1..6).prop_map(Step::Insert),
        3 => (1_u32..4).prop_map(Step::Claim),
        6 => (any::<usize>(), status).prop_map(|(pick, status)| Step::Settle(pick, status)),
        1 => any::<usize>().prop_map(Step::Release),
        2 => proptest::collection::vec(any::<usize>(), 1..4).prop_map(Step::Requeue),
        1 => any::<usize>().prop_map(Step::Discard),
        1 => Just(Step::Unpark),
    ]
}
