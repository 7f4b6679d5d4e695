//! Any sequence of calls leaves the table as a plain model in memory says, on each database.
//!
//! Time is not waited for: a row's lease lapses, its next run becomes due and it gets old because a
//! step says so in SQL.

mod observed;
mod operator;
mod row;
mod step;
mod table;

use std::time::Duration;

use eventflow::inbox::{Holder, Inbox, Lease, Retention, Settlement};
use eventflow_tests::property;
use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::runtime::Runtime;

use self::{
    observed::Observed,
    step::{New, Operation, Passage, Step, steps},
    table::Table,
};
use super::fixture::{Fixture, Postgres, Sqlite};

/// How long leases and waits last: longer than any test.
const HOUR: Duration = Duration::from_hours(1);

const CONSUMERS: [&str; 2] = ["billing", "shipping"];
const HOLDERS: [&str; 2] = ["one", "two"];

type Checked = Result<(), TestCaseError>;

#[test]
fn postgres_does_what_the_model_says() {
    check(40, Postgres::start());
}

#[test]
fn sqlite_does_what_the_model_says() {
    check(150, Sqlite::in_memory());
}

/// Tries sequences of steps.
fn check<F: Fixture>(cases: u32, start: impl Future<Output = F>) {
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(start);
    property::check(cases, &steps(), |steps| {
        runtime.block_on(run(&fixture, steps))
    });
}

/// Takes the steps from an empty table on.
async fn run<F: Fixture>(fixture: &F, steps: Vec<Step>) -> Checked {
    fixture.change("DELETE FROM event_inbox").await;
    let mut table = Table::default();
    for step in steps {
        take(fixture, &mut table, step.clone())
            .await
            .map_err(|error| TestCaseError::fail(format!("{step:?}: {error}")))?;
        table.compare(Observed::all(fixture).await)?;
        summaries(fixture.inbox(), &table).await?;
    }
    Ok(())
}

/// Does one step to the inbox and to the model, and compares the answers.
async fn take<F: Fixture>(fixture: &F, table: &mut Table, step: Step) -> Checked {
    let inbox = fixture.inbox();
    match step {
        Step::Insert {
            consumer,
            holder,
            events,
        } => {
            let arrivals = events.iter().map(New::arrival).collect();
            let answer = inbox.insert(&holder_of(consumer, holder), arrivals).await;
            table.insert(consumer, holder, &events, &answer.unwrap())
        }
        Step::Claim {
            consumer,
            holder,
            due,
            limit,
        } => {
            let claimed = inbox.claim(&holder_of(consumer, holder), due, limit).await;
            table.claim(consumer, holder, due, limit, &claimed.unwrap())
        }
        Step::Settle(picks) => {
            let settlements: Vec<Settlement> = table.settlements(&picks);
            let held = super::settle(inbox, &settlements).await;
            prop_assert_eq!(sorted(held), sorted(table.settle(&settlements)));
            Ok(())
        }
        Step::Recover { consumer, holder } => {
            let recovery = inbox.recover(&holder_of(consumer, holder)).await.unwrap();
            table.recover(consumer, holder, &recovery)
        }
        Step::Extend { holder, picks } => {
            let leases = table.leases(&picks);
            let held = inbox.extend(&holder_of(0, holder), leases.clone()).await;
            let expected = table.extend(holder, &leases);
            prop_assert_eq!(sorted(held.unwrap()), sorted(expected));
            Ok(())
        }
        Step::Release { picks, later } => {
            let leases = table.leases(&picks);
            let delay = if later { HOUR } else { Duration::ZERO };
            let released = inbox.release(leases.clone(), delay).await.unwrap();
            prop_assert_eq!(released, table.release(&leases, later));
            Ok(())
        }
        Step::Operate {
            consumer,
            operation,
        } => operate(fixture, table, consumer, operation).await,
        Step::Pass(passage) => pass(fixture, table, passage).await,
    }
}

async fn operate<F: Fixture>(
    fixture: &F,
    table: &mut Table,
    consumer: usize,
    operation: Operation,
) -> Checked {
    let (inbox, name) = (fixture.inbox(), CONSUMERS[consumer]);
    match operation {
        Operation::Unpark(of_type) => {
            let types = of_type.map(|of_type| [of_type]);
            let types = types.as_ref().map(|types| &types[..]);
            let unparked = inbox.unpark(name, types).await.unwrap();
            prop_assert_eq!(unparked, table.unpark(consumer, of_type));
        }
        Operation::Requeue(picks) => {
            let ids = table.ids(&picks);
            let requeued = inbox.requeue(name, &ids).await.unwrap();
            prop_assert_eq!(requeued, table.requeue(consumer, &ids));
        }
        Operation::Discard(picks) => {
            let ids = table.ids(&picks);
            let discarded = inbox.discard(name, &ids).await.unwrap();
            prop_assert_eq!(discarded, table.discard(consumer, &ids));
        }
        Operation::Purge(limit) => {
            let retention = Retention {
                processed: HOUR,
                dead_letter: HOUR,
            };
            let purged = inbox.purge(name, retention, limit).await.unwrap();
            let left = Observed::all(fixture).await;
            table.purge(consumer, limit, purged, &left)?;
        }
    }
    Ok(())
}

/// Moves one time of a row two hours into the past.
async fn pass<F: Fixture>(fixture: &F, table: &mut Table, passage: Passage) -> Checked {
    if let Some((id, column)) = table.pass(passage) {
        let past = F::in_seconds(-7200);
        let sql = format!("UPDATE event_inbox SET {column} = {past} WHERE id = '{id}'");
        prop_assert_eq!(fixture.change(&sql).await, 1);
    }
    Ok(())
}

/// What the inbox tells about the whole table.
async fn summaries(inbox: &impl Inbox, table: &Table) -> Checked {
    for (index, consumer) in CONSUMERS.into_iter().enumerate() {
        prop_assert_eq!(inbox.counts(consumer).await.unwrap(), table.counts(index));
        let wait = inbox.next_due(consumer).await.unwrap();
        prop_assert_eq!(wait.map(|wait| wait > Duration::ZERO), table.waits(index));
        prop_assert!(wait.is_none_or(|wait| wait <= HOUR));
        let dead = inbox.dead_letters(consumer, 100).await.unwrap();
        let mut dead: Vec<_> = dead.into_iter().map(|letter| letter.id).collect();
        dead.sort();
        prop_assert_eq!(dead, table.dead(index));
    }
    Ok(())
}

fn holder_of(consumer: usize, holder: usize) -> Holder {
    Holder {
        consumer: CONSUMERS[consumer].to_owned(),
        name: HOLDERS[holder].to_owned(),
        lease: HOUR,
    }
}

fn sorted(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|lease| (lease.id, lease.token));
    leases
}
