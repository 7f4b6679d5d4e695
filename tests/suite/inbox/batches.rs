//! Batches of arrivals: what they may have beside the columns that every event has, and batches that are
//! stored once more.

use std::time::Duration;

use chrono::SubsecRound as _;
use eventflow::inbox::Due;

use super::{
    Admission, Arrival, CONSUMER, Fixture, Inbox, Status, arrival, fixture::on_each_database,
    holder, insert, settle, settlement,
};

on_each_database! {
    a_batch_of_any_shape_is_stored_but_for_its_duplicates,
    rows_may_have_different_numbers_of_runs,
    what_an_unanswered_insert_has_stored_is_a_duplicate,
    of_several_rows_those_are_settled_that_nobody_else_has_finished,
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(arrival: Arrival) -> Arrival {
    let envelope = arrival.envelope.with_correlation_id("checkout-7");
    Arrival {
        envelope: envelope
            .with_causation_id("click-1")
            .with_traceparent(TRACE),
        ..arrival
    }
}

/// Whether one of the arrivals is traced, and whether one enters as a dead letter.
async fn a_batch_of_any_shape_is_stored_but_for_its_duplicates(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    for (shape, (is_traced, is_mixed)) in
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .enumerate()
    {
        let name = |event: &str| format!("{shape}-{event}");
        insert(inbox, &holder("a"), &[&name("known")]).await;
        let mut arrivals = ["first", "known", "last"].map(|event| arrival(&name(event)));
        if is_traced {
            arrivals[2] = traced(arrivals[2].clone());
        }
        let mut expected = vec![arrivals[0].clone(), arrivals[2].clone()];
        let duplicate = arrivals[1].id;
        let mut arrivals = arrivals.to_vec();
        if is_mixed {
            arrivals.push(Arrival {
                admission: Admission::DeadLetter("unreadable".to_owned()),
                raw: Some(vec![0, 255]),
                ..arrival(&name("dead"))
            });
        }
        let before = inbox.counts(CONSUMER).await.unwrap();

        let inserted = inbox.insert(&holder("a"), arrivals).await.unwrap();
        let leases = inserted.rows.iter().map(|row| row.lease).collect();
        inbox.release(leases, Duration::ZERO).await.unwrap();
        let mut claimed = inbox.claim(&holder("b"), Due::Now, 9).await.unwrap();

        assert_eq!(inserted.duplicates, [duplicate], "{shape}");
        claimed.sort_by_key(|row| row.lease.id);
        expected.sort_by_key(|arrival| arrival.id);
        assert_eq!(claimed.len(), expected.len(), "{shape}");
        for (row, arrival) in claimed.iter().zip(expected) {
            let (stored, arrived) = (row.envelope.metadata(), arrival.envelope.metadata());
            assert_eq!(row.lease.id, arrival.id);
            assert_eq!(stored.event_id, arrived.event_id);
            assert_eq!(stored.event_type, arrived.event_type);
            assert_eq!(stored.aggregate_id, arrived.aggregate_id);
            assert_eq!(stored.occurred_on, arrived.occurred_on.trunc_subsecs(6));
            assert_eq!(stored.correlation_id, arrived.correlation_id);
            assert_eq!(stored.causation_id, arrived.causation_id);
            assert_eq!(stored.traceparent, arrived.traceparent);
            assert_eq!(row.max_retries, 3);
        }
        let after = inbox.counts(CONSUMER).await.unwrap();
        assert_eq!(after.dead_letter - before.dead_letter, u64::from(is_mixed));
    }
}

async fn rows_may_have_different_numbers_of_runs(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let arrivals = [1, 7].map(|max_retries| Arrival {
        max_retries,
        ..arrival(&max_retries.to_string())
    });

    let inserted = inbox.insert(&holder("a"), arrivals.to_vec()).await.unwrap();

    assert_eq!(inserted.rows.len(), 2);
    let stored = "SELECT CAST(max_retries AS TEXT) FROM event_inbox ORDER BY event_id";
    assert_eq!(fixture.texts(stored).await, ["1", "7"]);
}

async fn what_an_unanswered_insert_has_stored_is_a_duplicate(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let arrivals = ["1", "2", "3"].map(arrival);
    inbox
        .insert(&holder("a"), arrivals[..2].to_vec())
        .await
        .unwrap();

    let again = inbox.insert_again(&holder("a"), arrivals.to_vec()).await;

    let again = again.unwrap();
    let rows: Vec<_> = again.rows.iter().map(|row| row.lease.id).collect();
    assert_eq!(rows, [arrivals[2].id]);
    assert_eq!(again.duplicates, [arrivals[0].id, arrivals[1].id]);
}

async fn of_several_rows_those_are_settled_that_nobody_else_has_finished(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["1", "2", "3", "4"]).await;
    settle(inbox, &[settlement(leases[0], Status::Processed)]).await;
    fixture
        .change("UPDATE event_inbox SET status = 'processed' WHERE event_id = '2'")
        .await;

    let all: Vec<_> = leases
        .iter()
        .map(|lease| settlement(*lease, Status::Processed))
        .collect();
    let mut held = settle(inbox, &all).await;

    held.sort_by_key(|lease| lease.id);
    assert_eq!(held, leases[2..]);
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processed, 4);
    assert!(settle(inbox, &all).await.is_empty());
}
