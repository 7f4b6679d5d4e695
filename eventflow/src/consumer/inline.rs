//! Fresh events in the transaction that stores them: inserted, handled and settled by one commit, and
//! acknowledged after it.
//!
//! What does not fit goes the first way: stored and acknowledged before it runs. So does a batch whose
//! unit is lost; the statement that stores it then finds what a commit without an answer has left.

use std::{pin::pin, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::join,
    stream::{self, FusedStream},
};
use uuid::Uuid;

use super::{
    concurrent::{calls, ended_within, finish},
    engine::Engine,
    lanes::{entries_of, note_trimmed},
    late::acknowledge_soon,
    outcome::Outcome,
    storing::{Storing, store},
    unit::{Newborn, UnitOfWork, is_replay_safe, run_again},
    worker::run_by_route,
};
use crate::{
    envelope::Envelope,
    error::chain,
    fail_point::{self, Point},
    inbox::{Admission, Arrival, Inbox, Insertion, Row, Unit, UnitLost},
    router::Route,
    stream::{Batch, EntryId, Source},
};

/// How long handlers without the transaction may take while their rows' unit is open. What takes longer
/// goes on after its commit.
const BLINK: Duration = Duration::from_millis(10);

/// What one transaction came to.
enum Inline {
    /// The batch is stored and acknowledged, with these rows to run.
    Committed(Vec<Uuid>),
    /// Nothing of it is stored, and no handler has run.
    NotBegun,
    /// The unit is lost, with all that its handlers wrote in it.
    Lost,
}

/// Stores a batch and runs its events; answers the rows that were run.
pub(super) async fn run_inline<Src, I>(engine: &Engine<Src, I>, batch: Batch) -> Vec<Uuid>
where
    Src: Source,
    I: Inbox,
{
    note_trimmed(engine, &batch);
    let entries = entries_of(&batch);
    let mut storing = Storing::new(engine, &batch.entries, &Admission::Run);
    let inline = match storing.whole() {
        Some(arrivals) if !engine.stopping.is_cancelled() => {
            // Boxed, as what goes another way would not fit beside it.
            Box::pin(in_one_transaction(engine, &mut storing, arrivals, &entries)).await
        }
        _ => Inline::NotBegun,
    };
    if let Inline::Committed(rows) = inline {
        return rows;
    }
    if let Inline::Lost = inline {
        // Whatever the kind: what has run must not run again because its commit was not answered.
        storing.note_unanswered();
    }
    let Some(rows) = store(engine, &mut storing).await else {
        return Vec::new();
    };
    engine.held.take_on(&rows);
    acknowledge_soon(engine, &entries).await;
    let ids = ids_of(&rows);
    if let Inline::Lost = inline {
        for row in rows {
            Box::pin(run_by_route(engine, vec![row], None)).await;
        }
    } else {
        Box::pin(run_by_route(engine, rows, None)).await;
    }
    ids
}

fn ids_of(rows: &[Row]) -> Vec<Uuid> {
    rows.iter().map(|row| row.lease.id).collect()
}

async fn in_one_transaction<Src, I>(
    engine: &Engine<Src, I>,
    storing: &mut Storing<'_>,
    arrivals: Vec<Arrival>,
    entries: &[EntryId],
) -> Inline
where
    Src: Source,
    I: Inbox,
{
    let (unit, Insertion { rows, duplicates }) = match insert(engine, arrivals).await {
        Ok(inserted) => inserted,
        Err(lost) => {
            tracing::debug!(
                error = chain(&lost),
                "a batch could not be stored in the transaction that runs it; storing it first"
            );
            return Inline::NotBegun;
        }
    };
    let (newborn, committed) = Newborn::new(&rows, &engine.held);
    let ids = ids_of(&rows);
    let running = run(engine, unit, newborn, rows);
    // Beside the rest of it: a handler that takes long goes on after the commit.
    let acknowledging = async {
        let is_committed = committed.await.is_ok();
        if is_committed {
            storing.note_whole(engine, &duplicates);
            acknowledge_soon(engine, entries).await;
        }
        is_committed
    };
    match join(running, acknowledging).await {
        ((), true) => Inline::Committed(ids),
        ((), false) => Inline::Lost,
    }
}

async fn insert<Src, I>(
    engine: &Engine<Src, I>,
    arrivals: Vec<Arrival>,
) -> Result<(I::Unit, Insertion), UnitLost>
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut unit = if arrivals
        .iter()
        .any(|arrival| is_lent(engine, &arrival.envelope))
    {
        engine.inbox.begin().await?
    } else {
        engine.inbox.begin_unlent().await?
    };
    let insertion = unit.insert(&engine.holder, arrivals).await?;
    fail_point::reach(Point::AfterInsert).await?;
    Ok((unit, insertion))
}

/// Runs rows in the unit that has inserted them, as far as they get there.
async fn run<Src, I>(engine: &Engine<Src, I>, unit: I::Unit, newborn: Newborn, rows: Vec<Row>)
where
    Src: Source,
    I: Inbox,
{
    let (transactional, concurrent): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| is_lent(engine, &row.envelope));
    let optimistic = is_replay_safe(engine, &transactional);
    let mut work = UnitOfWork::with_newborn(engine, unit, newborn, optimistic);
    let mut calls = calls(engine, concurrent);
    let ended = ended_within(BLINK, &mut calls).await;
    let has_ended = !ended.is_empty();
    for (row, outcome) in ended {
        work.note_call(row, outcome);
    }
    let mut ended = Vec::new();
    // What has ended is not to be repeated because a neighbour loses the unit.
    if !calls.is_terminated() || (has_ended && !transactional.is_empty()) {
        ended = commit_beside(&mut work, &mut calls).await;
        if work.has_lost_newborn() {
            return;
        }
    }
    let calls = stream::iter(ended).chain(calls);
    let units = async {
        for row in transactional {
            work.run(row).await;
        }
        run_again(engine, work.finish().await).await;
    };
    join(units, finish(engine, calls)).await;
}

/// Commits the unit while calls go on: their time is not for the database to use up. Answers those that
/// end meanwhile.
async fn commit_beside<Src, I>(
    work: &mut UnitOfWork<'_, Src, I>,
    calls: &mut (impl Stream<Item = (Row, Outcome)> + Unpin),
) -> Vec<(Row, Outcome)>
where
    Src: Source,
    I: Inbox,
{
    let mut ended = Vec::new();
    let mut commit = pin!(work.commit());
    loop {
        tokio::select! {
            biased;
            () = &mut commit => return ended,
            Some(call) = calls.next() => ended.push(call),
        }
    }
}

/// Whether an event's handler takes the transaction.
fn is_lent<Src, I: Inbox>(engine: &Engine<Src, I>, envelope: &Envelope) -> bool {
    let routes = engine.dispatcher.routes();
    matches!(
        routes.route(&envelope.metadata().event_type),
        Route::Handler(route) if route.transactional
    )
}
