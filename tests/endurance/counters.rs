//! What workers counted that have stopped: the counts of those that were killed died with them.

use eventflow_tests::worker::WorkerReport;

use crate::{
    checks::Check,
    cluster::RUNS,
    ledger::Carried,
    message::{Kind, Message},
};

pub(crate) fn checks(reports: &[WorkerReport], carried: &Carried) -> [Check; 2] {
    [
        Check::new(
            "what a worker reads, it counts as something",
            unbalanced(reports),
        ),
        Check::new(
            "no more is counted than there was",
            beyond(reports, carried),
        ),
    ]
}

/// What speaks against single reports: each entry read is one of what an entry can be.
fn unbalanced(reports: &[WorkerReport]) -> Vec<String> {
    let balanced = |report: &&WorkerReport| {
        let kinds = ["stored", "duplicates", "malformed", "ignored", "unknown"];
        let kinds = kinds.iter().map(|kind| report.count(kind));
        report.count("read") == kinds.sum::<u64>() && report.count("trimmed") == 0
    };
    let unbalanced = reports.iter().filter(|report| !balanced(report));
    unbalanced.map(|report| format!("{report:?}")).collect()
}

/// What speaks against all reports together: nobody has counted what was not there.
fn beyond(reports: &[WorkerReport], carried: &Carried) -> Vec<String> {
    let ended = |kinds: &[Kind]| {
        let events = carried.events.values();
        events.filter(|event| kinds.contains(&event.kind)).count()
    };
    let limits = [
        ("stored", carried.events.len()),
        ("malformed", carried.malformed.len()),
        ("processed", ended(&[Kind::Done, Kind::FailsOnce])),
        ("dead_lettered", ended(&[Kind::FailsAlways, Kind::Refused])),
    ];
    let counted = limits.map(|(name, limit)| (name, sum(reports, name), limit as u64));
    let beyond = counted.iter().filter(|(_, count, limit)| count > limit);
    beyond
        .map(|(name, count, limit)| format!("{name}: {count} of {limit}"))
        .collect()
}

/// What speaks against the reports of all workers that have seen these messages, and no faults.
pub(crate) fn inexact(reports: &[WorkerReport], messages: &[Message]) -> Vec<String> {
    let mut events: Vec<_> = messages.iter().filter_map(|m| m.event.as_ref()).collect();
    let entries = messages.len();
    let malformed = entries - events.len();
    events.sort_by(|a, b| a.id.cmp(&b.id));
    events.dedup_by(|a, b| a.id == b.id);
    let of = |kind| events.iter().filter(|event| event.kind == kind).count();
    let reruns = usize::try_from(RUNS - 1).unwrap();
    let expected = [
        ("stored", events.len()),
        ("malformed", malformed),
        ("processed", of(Kind::Done) + of(Kind::FailsOnce)),
        (
            "failed",
            of(Kind::FailsOnce) + of(Kind::FailsAlways) * reruns,
        ),
        ("dead_lettered", of(Kind::FailsAlways) + of(Kind::Refused)),
        ("crash_looped", 0),
        ("units_lost", 0),
    ];
    let counted = expected.map(|(name, count)| (name, sum(reports, name), count as u64));
    let wrong = counted.iter().filter(|(_, count, right)| count != right);
    let mut wrong: Vec<_> = wrong
        .map(|(name, count, right)| format!("{name}: {count}, not {right}"))
        .collect();
    // Another worker may read again what one is slow to acknowledge.
    let read = sum(reports, "read");
    if read < entries as u64 {
        wrong.push(format!("read: {read}, not {entries}"));
    }
    wrong
}

/// What was taken from workers, as by those that were held to be dead, and what they lost.
pub(crate) fn losses(reports: &[WorkerReport]) -> [(&'static str, u64); 3] {
    ["recovered", "lease_lost", "units_lost"].map(|name| (name, sum(reports, name)))
}

fn sum(reports: &[WorkerReport], name: &str) -> u64 {
    reports.iter().map(|report| report.count(name)).sum()
}
