//! Order per aggregate: any sequence of calls leaves the rows as a plain model in memory says; who may
//! store them; and how a table comes to it.

mod model;
mod property;
mod steps;

use std::{collections::BTreeMap, sync::Arc};

use eventflow::{
    Envelope,
    inbox::{Admission, Arrival, Due, Inbox, Lease, Order, OrderPolicy, OrderedInbox as _, Status},
    prelude::*,
};
use tokio::sync::Notify;

use super::{
    CONSUMER, dying,
    fixture::{Fixture, on_each_database},
    holder, settlement,
};

on_each_database!(
    only_the_one_reader_stores,
    a_reader_that_gives_up_is_followed_at_once,
    a_reader_that_has_not_heard_of_its_right_asks_again,
    the_right_to_read_is_for_all_streams_or_none,
    a_table_of_the_version_before_gets_its_order,
    a_turn_that_was_lost_past_the_inbox_is_passed_on,
    however_many_wait_behind_a_dead_letter_are_parked,
    rows_that_wait_are_due_where_no_order_is_kept,
);

/// The last day on which anything can be due; what is due later waits for its turn.
const LAST_DAY: i64 = 253_402_214_400_000_000;

#[derive(Serialize, Deserialize, Event)]
struct StockCounted {
    #[event(aggregate_id)]
    aggregate: Uuid,
}

fn ordered<I: Inbox>(inbox: &I, policy: OrderPolicy) -> I {
    inbox.in_order(Order {
        policy,
        passed: Arc::new(Notify::new()),
    })
}

fn streams() -> Vec<Arc<str>> {
    vec![Arc::from("orders")]
}

fn arrival(aggregate: usize, event_id: &str, admission: Admission) -> Arrival {
    let event = StockCounted {
        aggregate: Uuid::from_u128(u128::try_from(aggregate).unwrap() + 1),
    };
    Arrival {
        id: Uuid::now_v7(),
        envelope: Envelope::new(&event).unwrap().with_event_id(event_id),
        raw: None,
        admission,
        max_retries: 0,
    }
}

fn run(aggregate: usize, event_id: &str) -> Arrival {
    arrival(aggregate, event_id, Admission::Run)
}

/// The state of each row, and whether it waits for its turn.
async fn observe<F: Fixture>(fixture: &F) -> BTreeMap<String, (String, bool)> {
    #[derive(serde::Deserialize)]
    struct Seen {
        event_id: String,
        status: String,
        due: i64,
    }

    let sql = format!(
        "SELECT CAST({object}('event_id', event_id, 'status', status, 'due', {due}) AS TEXT)
         FROM event_inbox",
        object = F::JSON_OBJECT,
        due = F::micros("COALESCE(next_retry_at, received_at)"),
    );
    let rows = fixture.texts(&sql).await;
    let rows = rows.iter().map(|row| {
        let seen: Seen = serde_json::from_str(row).unwrap();
        let waits = (LAST_DAY..i64::MAX).contains(&seen.due);
        (seen.event_id, (seen.status, waits))
    });
    rows.collect()
}

async fn only_the_one_reader_stores(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    let stopped = dying("stopped");
    let stale = inbox.acquire_reading(&stopped, &streams()).await.unwrap();
    let stale = stale.unwrap();
    let new = holder("new");
    // The lease has lapsed at once, as soon as the clock has gone on.
    let reader = loop {
        if let Some(reader) = inbox.acquire_reading(&new, &streams()).await.unwrap() {
            break reader;
        }
    };

    let refused = inbox
        .insert_in_order(&stopped, &stale, vec![run(0, "1")])
        .await
        .unwrap();

    assert!(refused.is_none());
    assert!(observe(&fixture).await.is_empty());
    assert!(!inbox.extend_reading(&stopped, &stale).await.unwrap());
    // A reader that is no more gives up what it does not have.
    inbox.release_reading(&stopped, &stale).await.unwrap();
    assert!(inbox.extend_reading(&new, &reader).await.unwrap());
    let stored = inbox
        .insert_in_order(&new, &reader, vec![run(0, "1")])
        .await
        .unwrap();
    assert_eq!(stored.unwrap().rows.len(), 1);
}

async fn a_reader_that_gives_up_is_followed_at_once(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    let (one, two) = (holder("one"), holder("two"));
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let reader = reader.unwrap();
    assert!(
        inbox
            .acquire_reading(&two, &streams())
            .await
            .unwrap()
            .is_none()
    );

    inbox.release_reading(&one, &reader).await.unwrap();

    let late = inbox.extend_reading(&one, &reader).await.unwrap();
    assert!(!late, "an extension on its way gave the right back");
    let next = inbox.acquire_reading(&two, &streams()).await.unwrap();
    assert!(next.is_some());
    let late = inbox
        .insert_in_order(&one, &reader, vec![run(0, "1")])
        .await;
    assert!(late.unwrap().is_none());
}

async fn a_reader_that_has_not_heard_of_its_right_asks_again(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    let one = holder("one");
    let unheard = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let unheard = unheard.unwrap();

    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();

    let reader = reader.expect("its own lease is not in its way");
    assert!(!inbox.extend_reading(&one, &unheard).await.unwrap());
    let stored = inbox
        .insert_in_order(&one, &reader, vec![run(0, "1")])
        .await;
    assert_eq!(stored.unwrap().unwrap().rows.len(), 1);
}

async fn the_right_to_read_is_for_all_streams_or_none(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let both: Vec<Arc<str>> = vec![Arc::from("payments"), Arc::from("orders")];
    let reader = inbox
        .acquire_reading(&holder("one"), &[Arc::from("payments")])
        .await
        .unwrap();
    let reader = reader.unwrap();

    let refused = inbox.acquire_reading(&holder("two"), &both).await.unwrap();

    assert!(refused.is_none());
    let orders = inbox.acquire_reading(&holder("three"), &streams()).await;
    let orders = orders.unwrap().unwrap();
    for (name, lease) in [("one", reader), ("three", orders)] {
        inbox.release_reading(&holder(name), &lease).await.unwrap();
    }
    let granted = inbox.acquire_reading(&holder("two"), &both).await.unwrap();
    assert!(granted.is_some());
}

async fn a_table_of_the_version_before_gets_its_order<F: Fixture>(fixture: F) {
    let inbox = fixture.inbox();
    super::insert(inbox, &holder("a"), &["old"]).await;
    for change in [
        "DROP INDEX ix_event_inbox_turn",
        "DROP INDEX ix_event_inbox_held",
        "ALTER TABLE event_inbox DROP COLUMN position",
        "DROP TABLE event_inbox_leases",
        "UPDATE event_inbox_migrations SET version = 1",
    ] {
        fixture.change(change).await;
    }
    // SQLite has it as a table, Postgres as a sequence of the column.
    if F::JSON_OBJECT == "json_object" {
        fixture.change("DROP TABLE event_inbox_positions").await;
    }
    let missing = inbox.check_schema().await.unwrap_err();
    assert!(missing.to_string().contains("`position`"), "{missing}");

    inbox.migrate().await.unwrap();

    let versions = "SELECT CAST(version AS TEXT) FROM event_inbox_migrations ORDER BY version";
    assert_eq!(fixture.texts(versions).await, ["1", "2"]);
    inbox.migrate().await.unwrap();
    let inbox = ordered(inbox, OrderPolicy::Block);
    let one = holder("one");
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let arrivals = vec![run(0, "1"), run(0, "2"), run(0, "old")];
    let stored = inbox
        .insert_in_order(&one, &reader.unwrap(), arrivals)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stored.rows.len(), stored.duplicates.len()), (1, 1));
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processing, 2);
}

/// Rows of an aggregate, of which the first runs.
async fn three_in_order(inbox: &impl Inbox) -> Lease {
    let one = holder("one");
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let arrivals = vec![run(0, "1"), run(0, "2"), run(0, "3")];
    let stored = inbox
        .insert_in_order(&one, &reader.unwrap(), arrivals)
        .await
        .unwrap();
    stored.unwrap().rows[0].lease
}

async fn a_turn_that_was_lost_past_the_inbox_is_passed_on(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    three_in_order(&inbox).await;
    fixture
        .change("DELETE FROM event_inbox WHERE event_id = '1'")
        .await;
    assert_eq!(
        inbox.claim(&holder("b"), Due::Now, 9).await.unwrap().len(),
        0
    );

    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 1);

    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
    let claimed = inbox.claim(&holder("b"), Due::Now, 9).await.unwrap();
    assert_eq!(claimed[0].envelope.metadata().event_id, "2");
    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
}

async fn however_many_wait_behind_a_dead_letter_are_parked(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Park);
    let one = holder("one");
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let arrivals = (0..2_500).map(|id| run(0, &id.to_string())).collect();
    let stored = inbox
        .insert_in_order(&one, &reader.unwrap(), arrivals)
        .await
        .unwrap();
    let lease = stored.unwrap().rows[0].lease;
    super::settle(&inbox, &[settlement(lease, Status::DeadLetter)]).await;

    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);

    assert_eq!(inbox.counts(CONSUMER).await.unwrap().dead_letter, 2_500);
    let reasons = "SELECT DISTINCT error_message FROM event_inbox WHERE event_id <> '0'";
    assert_eq!(
        fixture.texts(reasons).await,
        ["parked behind event `0` of its aggregate, which is a dead letter"]
    );
}

async fn rows_that_wait_are_due_where_no_order_is_kept(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    three_in_order(&inbox).await;
    let plain = fixture.inbox();
    assert_eq!(
        plain
            .claim(&holder("b"), Due::Later, 9)
            .await
            .unwrap()
            .len(),
        0
    );
    assert_eq!(plain.unpark(CONSUMER, None).await.unwrap(), 0);
    assert_eq!(plain.backlog(CONSUMER, 9).await.unwrap(), 0);
    assert_eq!(plain.next_due(CONSUMER).await.unwrap(), None);

    assert_eq!(plain.leave_order(CONSUMER).await.unwrap(), 2);

    assert_eq!(
        plain.claim(&holder("b"), Due::Now, 9).await.unwrap().len(),
        2
    );
}
