//! Any sequence of calls leaves the rows as the model says.

use std::{collections::BTreeMap, time::Duration};

use eventflow::inbox::{
    Admission, Due, Inbox, Lease, OrderPolicy, OrderedInbox as _, ReaderLease, Status,
};
use eventflow_tests::property;
use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::runtime::Runtime;

use super::{
    super::{
        CONSUMER,
        fixture::{Fixture, Postgres, Sqlite},
        holder, settlement,
    },
    arrival,
    model::{Model, Row, State},
    observe, ordered, run,
    steps::{Kind, Step, step},
    streams,
};

pub(super) type Checked = Result<(), TestCaseError>;

#[test]
fn postgres_keeps_the_order_that_the_model_says() {
    check(60, Postgres::start());
}

#[test]
fn sqlite_keeps_the_order_that_the_model_says() {
    check(250, Sqlite::in_memory());
}

fn check<F: Fixture>(cases: u32, start: impl Future<Output = F>) {
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(start);
    let policies = prop_oneof![
        Just(OrderPolicy::Block),
        Just(OrderPolicy::Skip),
        Just(OrderPolicy::Park)
    ];
    let steps = proptest::collection::vec(step(), 1..40);
    property::check(cases, &(policies, steps), |(policy, steps)| {
        runtime.block_on(take_all(&fixture, policy, steps))
    });
}

async fn take_all<F: Fixture>(fixture: &F, policy: OrderPolicy, steps: Vec<Step>) -> Checked {
    fixture.change("DELETE FROM event_inbox").await;
    fixture.change("DELETE FROM event_inbox_leases").await;
    let inbox = ordered(fixture.inbox(), policy);
    let mut model = Model {
        policy,
        rows: Vec::new(),
        inserted: 0,
    };
    let reader = inbox.acquire_reading(&holder("a"), &streams()).await;
    let reader = reader.unwrap().unwrap();
    for step in steps {
        take(&inbox, &reader, &mut model, step.clone()).await?;
        let expected: BTreeMap<_, _> = model
            .rows
            .iter()
            .map(|row| (row.event_id.clone(), row.observed()))
            .collect();
        prop_assert_eq!(observe(fixture).await, expected, "after {:?}", step);
        model.holds()?;
        prop_assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
        // What was requeued behind a dead letter by one who knows no policy.
        for aggregate in 0..3 {
            model.park(aggregate);
        }
    }
    Ok(())
}

async fn take(inbox: &impl Inbox, reader: &ReaderLease, model: &mut Model, step: Step) -> Checked {
    match step {
        Step::Insert(events) => insert(inbox, reader, model, events).await,
        Step::Claim(limit) => claim(inbox, model, limit).await,
        Step::Settle(pick, status) => settle(inbox, model, pick, status).await,
        Step::Release(pick) => release(inbox, model, pick).await,
        Step::Requeue(picks) => requeue(inbox, model, picks).await,
        Step::Discard(pick) => discard(inbox, model, pick).await,
        Step::Unpark => unpark(inbox, model).await,
    }
}

async fn insert(
    inbox: &impl Inbox,
    reader: &ReaderLease,
    model: &mut Model,
    events: Vec<(usize, Kind)>,
) -> Checked {
    let a = holder("a");
    let mut arrivals = Vec::new();
    let mut duplicates = Vec::new();
    for (aggregate, kind) in events {
        if let Kind::Again(pick) = kind
            && let Some(index) = pick.checked_rem(model.rows.len())
        {
            let event_id = model.rows[index].event_id.clone();
            let again = run(aggregate, &event_id);
            duplicates.push(again.id);
            arrivals.push(again);
            continue;
        }
        let admission = match kind {
            Kind::Run | Kind::Again(_) => Admission::Run,
            Kind::Wait => Admission::Wait,
            Kind::Unknown => Admission::DeadLetter("unknown".to_owned()),
            Kind::Left => Admission::Park,
        };
        model.inserted += 1;
        let event_id = format!("{:03}", model.inserted);
        let arrival = arrival(aggregate, &event_id, admission);
        let state = model.enters(aggregate, kind);
        model.rows.push(Row {
            id: arrival.id,
            event_id,
            aggregate,
            has_failed: false,
            state,
        });
        arrivals.push(arrival);
    }
    let stored = inbox.insert_in_order(&a, reader, arrivals).await.unwrap();
    let stored = stored.unwrap();
    prop_assert_eq!(stored.duplicates, duplicates);
    for row in &stored.rows {
        let known = model.rows.iter().find(|known| known.id == row.lease.id);
        prop_assert_eq!(known.unwrap().state, State::Runs(row.lease.token));
    }
    Ok(())
}

async fn claim(inbox: &impl Inbox, model: &mut Model, limit: u32) -> Checked {
    let a = holder("a");
    let claimed = inbox.claim(&a, Due::Later, limit).await.unwrap();
    let due = model
        .rows
        .iter()
        .filter(|row| matches!(row.state, State::Due | State::Failed));
    let most = usize::try_from(limit).unwrap();
    prop_assert_eq!(claimed.len(), due.count().min(most));
    for row in claimed {
        let known = model.rows.iter_mut().find(|known| known.id == row.lease.id);
        let known = known.unwrap();
        prop_assert!(
            matches!(known.state, State::Due | State::Failed),
            "{known:?}"
        );
        known.state = State::Runs(row.lease.token);
    }
    Ok(())
}

async fn settle(inbox: &impl Inbox, model: &mut Model, pick: usize, status: Status) -> Checked {
    let a = holder("a");
    let running = model.running();
    let Some(index) = pick.checked_rem(running.len()) else {
        return Ok(());
    };
    let dead = model.dead();
    let row = &mut model.rows[running[index]];
    let State::Runs(token) = row.state else {
        return Ok(());
    };
    let mut settled = settlement(Lease { id: row.id, token }, status);
    settled.retry_count = i32::from(row.has_failed || status == Status::Failed);
    row.has_failed |= status == Status::Failed;
    let aggregate = row.aggregate;
    row.state = match status {
        Status::Processed => State::Done,
        Status::Failed => State::Failed,
        Status::Pending => State::Left,
        _ => dead,
    };
    if status != Status::Failed {
        model.pass(aggregate);
        model.park(aggregate);
    }
    // As a unit of work does it, and as it is done without one.
    let held = if pick.is_multiple_of(2) {
        super::super::settle(inbox, &[settled]).await
    } else {
        inbox.settle(&a, &[settled]).await.unwrap()
    };
    prop_assert_eq!(held.len(), 1);
    Ok(())
}

async fn release(inbox: &impl Inbox, model: &mut Model, pick: usize) -> Checked {
    let running = model.running();
    let Some(index) = pick.checked_rem(running.len()) else {
        return Ok(());
    };
    let row = &mut model.rows[running[index]];
    let State::Runs(token) = row.state else {
        return Ok(());
    };
    let lease = Lease { id: row.id, token };
    row.state = if row.has_failed {
        State::Failed
    } else {
        State::Due
    };
    let released = inbox.release(vec![lease], Duration::ZERO).await.unwrap();
    prop_assert_eq!(released, 1);
    Ok(())
}

async fn requeue(inbox: &impl Inbox, model: &mut Model, picks: Vec<usize>) -> Checked {
    let dead: Vec<usize> = (0..model.rows.len())
        .filter(|&row| model.rows[row].is_dead())
        .collect();
    let mut ids = Vec::new();
    for pick in picks {
        if let Some(index) = pick.checked_rem(dead.len()) {
            let row = &mut model.rows[dead[index]];
            ids.push(row.id);
            row.state = State::Waits;
            row.has_failed = false;
        }
    }
    for aggregate in 0..3 {
        if model
            .rows
            .iter()
            .any(|row| row.aggregate == aggregate && ids.contains(&row.id))
        {
            model.pass(aggregate);
        }
    }
    // By one who knows nothing of an order, as an operator does.
    let requeued = inbox.requeue(CONSUMER, &ids).await.unwrap();
    ids.sort();
    ids.dedup();
    prop_assert_eq!(requeued, u64::try_from(ids.len()).unwrap());
    Ok(())
}

async fn discard(inbox: &impl Inbox, model: &mut Model, pick: usize) -> Checked {
    let dead: Vec<usize> = (0..model.rows.len())
        .filter(|&row| model.rows[row].is_dead())
        .collect();
    let Some(index) = pick.checked_rem(dead.len()) else {
        return Ok(());
    };
    let row = model.rows.remove(dead[index]);
    model.pass(row.aggregate);
    prop_assert_eq!(inbox.discard(CONSUMER, &[row.id]).await.unwrap(), 1);
    Ok(())
}

async fn unpark(inbox: &impl Inbox, model: &mut Model) -> Checked {
    let mut unparked = 0;
    for row in &mut model.rows {
        if row.state == State::Left {
            row.state = State::Waits;
            unparked += 1;
        }
    }
    for aggregate in 0..3 {
        model.pass(aggregate);
    }
    prop_assert_eq!(inbox.unpark(CONSUMER, None).await.unwrap(), unparked);
    Ok(())
}
