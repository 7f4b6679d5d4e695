//! What must hold when everything is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::RUNS,
    database::{Row, Written},
    ledger::Carried,
    message::{Event, Kind},
};

/// The reason of dead letters that have failed in every run.
const FAILED: &str = "the work failed";
const REFUSED: &str = "the work cannot be done";
/// One that has lapsed in its last run instead.
const LAPSED: &str = "crash_loop";

/// Something that must hold.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// What speaks against it; nothing, if it holds.
    pub(crate) against: Vec<String>,
}

impl Check {
    pub(crate) fn new(name: &'static str, against: Vec<String>) -> Self {
        Self { name, against }
    }
}

/// Compares the tables with what the stream has carried.
pub(crate) fn outcome(carried: &Carried, written: &Written, is_ordered: bool) -> Vec<Check> {
    let Written {
        rows,
        effects,
        unequal,
        published,
    } = written;
    let by_id: BTreeMap<&str, &Row> = rows.iter().map(|row| (&*row.event_id, row)).collect();
    let mut effects_of = BTreeMap::<&str, usize>::new();
    for event in effects {
        *effects_of.entry(event).or_default() += 1;
    }
    let done = |event: &Event| matches!(event.kind, Kind::Done | Kind::FailsOnce);
    let effects_of = |event: &Event| effects_of.get(&*event.id).copied().unwrap_or_default();
    let mut checks = vec![
        Check::new(
            "Redis has every entry that it has answered with",
            carried.lost.clone(),
        ),
        Check::new(
            "every event has the row that it should",
            each(carried, |event| match by_id.get(&*event.id) {
                Some(row) => wrong(event, row),
                None => Some("it has no row".to_owned()),
            }),
        ),
        Check::new(
            "every event that can be done has exactly one effect",
            each(carried, |event| match effects_of(event) {
                effects if done(event) && effects != 1 => Some(format!("it has {effects} effects")),
                _ => None,
            }),
        ),
        Check::new(
            "no event that cannot be done has an effect",
            each(carried, |event| match effects_of(event) {
                effects if !done(event) && effects != 0 => {
                    Some(format!("it has {effects} effects"))
                }
                _ => None,
            }),
        ),
        Check::new("every effect has one event in the outbox", unequal.clone()),
        Check::new(
            "no row and no effect without its entry",
            strays(carried, rows, effects),
        ),
        Check::new(
            "every malformed entry is kept with its bytes",
            not_kept(carried, &by_id),
        ),
    ];
    checks.extend(is_ordered.then(|| order(carried, published)));
    checks
}

/// Malformed entries that are not kept as they came, with a reason.
fn not_kept(carried: &Carried, by_id: &BTreeMap<&str, &Row>) -> Vec<String> {
    let kept = |(id, bytes): (&String, &Vec<u8>)| match by_id.get(&**id) {
        None => Some(format!("{id}: it has no row")),
        Some(row) if row.status != "dead_letter" || row.raw.as_ref() != Some(bytes) => {
            Some(format!("{id}: {row:?}"))
        }
        Some(row) => row
            .error_message
            .is_none()
            .then(|| format!("{id}: no reason")),
    };
    carried.malformed.iter().filter_map(kept).collect()
}

/// Checks that the events of each aggregate have run in the order in which they came.
fn order(carried: &Carried, published: &[String]) -> Check {
    let by_aggregate = |ids: &[String]| {
        let mut order = BTreeMap::<_, Vec<String>>::new();
        for id in ids {
            if let Some(event) = carried.events.get(id) {
                order.entry(event.aggregate).or_default().push(id.clone());
            }
        }
        order
    };
    let have_run: BTreeSet<&String> = published.iter().collect();
    let mut came = carried.order.clone();
    came.retain(|id| have_run.contains(id));
    let (came, ran) = (by_aggregate(&came), by_aggregate(published));
    let against = came.iter().filter_map(|(aggregate, came)| {
        let ran = ran.get(aggregate)?;
        let (first, instead) = came.iter().zip(ran).find(|(came, ran)| came != ran)?;
        Some(format!("{aggregate}: {instead} has run before {first}"))
    });
    Check::new(
        "the events of an aggregate have run in order",
        against.collect(),
    )
}

/// What is wrong with events, each with its id.
fn each(carried: &Carried, wrong: impl Fn(&Event) -> Option<String>) -> Vec<String> {
    let events = carried.events.values();
    let wrong = |event: &Event| {
        Some(format!(
            "{} ({:?}): {}",
            event.id,
            event.kind,
            wrong(event)?
        ))
    };
    events.filter_map(wrong).collect()
}

/// What is wrong with the row of an event.
fn wrong(event: &Event, row: &Row) -> Option<String> {
    let reason = row.error_message.as_deref().unwrap_or_default();
    let right = match event.kind {
        Kind::Done => row.status == "processed",
        Kind::FailsOnce => row.status == "processed" && row.retry_count > 0,
        Kind::FailsAlways => {
            row.status == "dead_letter"
                && row.retry_count == RUNS
                && (reason == FAILED || reason.starts_with(LAPSED))
        }
        Kind::Refused => row.status == "dead_letter" && reason == REFUSED,
    };
    (!right || row.aggregate_id != event.aggregate).then(|| format!("{row:?}"))
}

/// Rows and effects of nothing that was published.
fn strays(carried: &Carried, rows: &[Row], effects: &[String]) -> Vec<String> {
    let known: BTreeSet<&str> = carried
        .events
        .keys()
        .chain(carried.malformed.keys())
        .map(String::as_str)
        .collect();
    let rows = rows.iter().map(|row| &row.event_id);
    let rows = rows.filter(|id| !known.contains(&***id));
    let effects = effects
        .iter()
        .filter(|id| !carried.events.contains_key(*id));
    let rows = rows.map(|id| format!("row {id}"));
    rows.chain(effects.map(|id| format!("effect {id}")))
        .collect()
}
