//! The end of a unit of work: its rows' next states, and the commit.

use super::newborn::Newborn;
use crate::{
    consumer::engine::Engine,
    fail_point::{self, Point},
    inbox::{Inbox, Lease, LossKind, Settlement, Status, Unit, UnitLost},
    outbox::Outgoing,
};

/// A unit that was lost at its end.
pub(super) struct Uncommitted {
    pub(super) lost: UnitLost,
    /// The row that is another worker's by now.
    pub(super) overtaken: Option<Lease>,
}

impl<E: Into<UnitLost>> From<E> for Uncommitted {
    fn from(lost: E) -> Self {
        Self {
            lost: lost.into(),
            overtaken: None,
        }
    }
}

/// What a unit ends with.
#[derive(Clone, Copy)]
pub(super) struct Ending<'a> {
    /// Its rows' next states.
    pub(super) settlements: &'a [Settlement],
    /// What their handlers have published.
    pub(super) outgoing: &'a [Outgoing],
}

/// Commits together: rows that the unit has inserted, their handlers' writes, what they have published,
/// and the rows' next states.
pub(super) async fn commit_newborn<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    ending: Ending<'_>,
    newborn: Newborn,
) -> Result<(), UnitLost>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let settlements = ending.settlements;
    let committing = async {
        fail_point::reach(Point::BeforeSettle).await?;
        publish(engine, &mut unit, ending.outgoing).await?;
        let amendments = newborn.amendments(settlements);
        if !amendments.is_empty() {
            unit.amend(&engine.holder, &amendments).await?;
        }
        fail_point::reach(Point::BeforeCommit).await?;
        unit.commit().await?;
        let answered = fail_point::reach(Point::AfterSettleCommit).await;
        answered.map_err(|error| UnitLost::new(LossKind::CommitUnknown, error.to_string()))
    };
    match committing.await {
        Ok(()) => {
            newborn.committed(settlements, &engine.held);
            let settled: Vec<Lease> = settlements.iter().map(|settled| settled.lease).collect();
            engine.note_settled(settlements, &settled);
            engine.note_published(ending.outgoing);
            Ok(())
        }
        Err(lost) => {
            newborn.lost(&engine.held);
            Err(lost)
        }
    }
}

/// Writes down what handlers have published.
async fn publish<Src, I>(
    engine: &Engine<Src, I>,
    unit: &mut I::Unit,
    outgoing: &[Outgoing],
) -> Result<(), UnitLost>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if outgoing.is_empty() {
        return Ok(());
    }
    unit.publish(&engine.outbox, outgoing).await
}

/// The rows of which the claims did not hold; nearly always there is none to look for.
fn gone<'s>(
    settlements: &'s [Settlement],
    settled: &'s [Lease],
) -> impl Iterator<Item = &'s Settlement> {
    let all = settled.len() == settlements.len();
    let settlements = settlements.iter();
    settlements.filter(move |settlement| !all && !settled.contains(&settlement.lease))
}

/// Commits together: the handlers' writes, what they have published, and their rows' next states.
pub(super) async fn commit<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    ending: Ending<'_>,
) -> Result<(), Uncommitted>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let settlements = ending.settlements;
    if settlements.is_empty() {
        return Ok(unit.commit().await?);
    }
    fail_point::reach(Point::BeforeSettle).await?;
    publish(engine, &mut unit, ending.outgoing).await?;
    let settled = unit.settle(&engine.holder, settlements).await?;
    let overtaken =
        gone(settlements, &settled).find(|settlement| settlement.status == Status::Processed);
    if let Some(settlement) = overtaken {
        // Another owner exists: its run counts, so this one's writes must not be stored.
        engine.note_lease_lost(settlement.lease);
        return Err(Uncommitted {
            lost: UnitLost::lease_lost(),
            overtaken: Some(settlement.lease),
        });
    }
    fail_point::reach(Point::BeforeCommit).await?;
    unit.commit().await?;
    fail_point::reach(Point::AfterSettleCommit)
        .await
        .map_err(|error| UnitLost::new(LossKind::CommitUnknown, error.to_string()))?;
    engine.note_settled(settlements, &settled);
    engine.note_published(ending.outgoing);
    Ok(())
}
