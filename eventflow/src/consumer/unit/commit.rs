//! The end of a unit of work: its rows' next states, and the commit.

use super::newborn::Newborn;
use crate::{
    consumer::{engine::Engine, queue::Queue},
    fail_point::{self, Point},
    inbox::{Inbox, Lease, LossKind, Row, Settled, Settlement, Status, Unit, UnitLost},
    outbox::Outgoing,
};

/// A unit that was lost at its end.
pub(super) struct Uncommitted {
    pub(super) lost: UnitLost,
    /// The row that is another worker's by now.
    pub(super) overtaken: Option<Lease>,
    /// Rows that are this process's if the commit was stored all the same.
    pub(super) next: Vec<Row>,
}

impl<E: Into<UnitLost>> From<E> for Uncommitted {
    fn from(lost: E) -> Self {
        Self {
            lost: lost.into(),
            overtaken: None,
            next: Vec::new(),
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

/// Commits together: the handlers' writes, what they have published, their rows' next states, and what
/// becomes of the rows whose turn it is then.
pub(super) async fn commit<Src, I>(
    engine: &Engine<Src, I>,
    mut unit: I::Unit,
    ending: Ending<'_>,
    queue: Option<&Queue>,
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
    let feeding = queue.filter(|_| engine.takes_next());
    let feeding = feeding.map(|queue| (queue, queue.room_left(settlements.len())));
    let room = feeding.as_ref().map_or(0, |(_, room)| room.size());
    let settled = unit.settle(&engine.holder, settlements, room).await?;
    let Settled { held, next } = settled;
    let overtaken = settlements.iter().find(|settlement| {
        settlement.status == Status::Processed && !held.contains(&settlement.lease)
    });
    if let Some(settlement) = overtaken {
        // Another owner exists: its run counts, so this one's writes must not be stored.
        engine.note_lease_lost(settlement.lease);
        return Err(Uncommitted {
            lost: UnitLost::lease_lost(),
            overtaken: Some(settlement.lease),
            next: Vec::new(),
        });
    }
    fail_point::reach(Point::BeforeCommit).await?;
    let committing = async {
        unit.commit().await?;
        let answered = fail_point::reach(Point::AfterSettleCommit).await;
        answered.map_err(|error| UnitLost::new(LossKind::CommitUnknown, error.to_string()))
    };
    if let Err(lost) = committing.await {
        return Err(Uncommitted {
            next,
            ..Uncommitted::from(lost)
        });
    }
    engine.note_settled(settlements, &held);
    engine.note_published(ending.outgoing);
    if let Some((queue, room)) = feeding {
        engine.held.add(&next);
        queue.push(room, next);
    }
    Ok(())
}
