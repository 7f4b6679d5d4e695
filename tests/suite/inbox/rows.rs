//! Rows: how they enter, who gets them, and what becomes of them.

use std::{collections::HashSet, time::Duration};

use eventflow::inbox::{Due, Holder, Recovery, Retention, Settlement};
use eventflow_tests::eventually;
use serde_json::value::RawValue;

use super::{
    Admission, CONSUMER, DEADLINE, Fixture, Inbox, Status, arrival, dying, holder, insert,
    on_each_database, settle, settlement,
};
use eventflow::{Envelope, Payload};

on_each_database! {
    an_event_is_stored_once,
    two_services_have_a_row_each,
    concurrent_claims_share_no_row,
    rows_are_claimed_in_the_order_of_their_due_times,
    lapsed_rows_are_recovered_in_the_order_of_their_batch,
    a_claim_that_moved_on_settles_nothing,
    a_released_row_is_due_again_with_no_attempt_counted,
    a_dead_letter_is_listed_requeued_and_discarded,
    a_malformed_entry_is_kept_and_not_requeued,
    a_parked_row_waits_until_its_type_is_known,
    a_second_lapse_counts_until_it_is_a_crash_loop,
    finished_rows_are_purged_in_batches,
    a_row_without_a_lease_is_recovered,
    the_next_lapse_is_that_of_the_lease_that_ends_first,
    a_row_that_another_program_finished_is_not_held,
    a_row_that_another_program_failed_is_claimed_afresh,
    fresh_and_claimed_payloads_are_the_same_bytes,
}

async fn an_event_is_stored_once(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    insert(inbox, &holder("a"), &["1"]).await;

    let arrivals = ["1", "2", "3", "2"].map(arrival).to_vec();
    let duplicates = [arrivals[0].id, arrivals[3].id];
    let insertion = inbox.insert(&holder("b"), arrivals).await.unwrap();

    let ids = insertion
        .rows
        .iter()
        .map(|row| &row.envelope.metadata().event_id);
    assert_eq!(ids.collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(insertion.duplicates, duplicates);
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processing, 3);
}

async fn two_services_have_a_row_each(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    insert(inbox, &holder("a"), &["1"]).await;
    let other = Holder {
        consumer: "shipping".to_owned(),
        ..holder("a")
    };

    let rows = insert(inbox, &other, &["1"]).await;

    assert_eq!(rows.len(), 1);
    assert_eq!(inbox.counts("shipping").await.unwrap().processing, 1);
}

async fn concurrent_claims_share_no_row(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let ids: Vec<String> = (0..200).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let leases = insert(inbox, &holder("a"), &ids).await;
    inbox.release(leases, Duration::ZERO).await.unwrap();

    let claims = (0..8).map(|worker| {
        let inbox = inbox.clone();
        tokio::spawn(async move {
            let holder = holder(&worker.to_string());
            let mut claimed = Vec::new();
            loop {
                let rows = inbox.claim(&holder, Due::Now, 7).await.unwrap();
                if rows.is_empty() {
                    return claimed;
                }
                claimed.extend(rows.into_iter().map(|row| row.lease.id));
            }
        })
    });
    let mut claimed = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        claimed.extend(claim.await.unwrap());
    }

    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 200);
}

async fn rows_are_claimed_in_the_order_of_their_due_times(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["last", "late", "soon", "now"]).await;
    for (lease, minutes) in leases.into_iter().zip([30, 20, 10, 0]) {
        let mut failed = settlement(lease, Status::Failed);
        failed.delay = Duration::from_secs(minutes * 60);
        settle(inbox, &[failed]).await;
    }

    let now = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();
    let wait = inbox.next_due(CONSUMER).await.unwrap().unwrap();
    let soon = inbox.claim(&holder("b"), Due::Later, 1).await.unwrap();
    let later = inbox.claim(&holder("b"), Due::Later, 10).await.unwrap();

    let ids = |rows: &[eventflow::inbox::Row]| -> Vec<String> {
        let metadata = rows.iter().map(|row| row.envelope.metadata());
        metadata.map(|metadata| metadata.event_id.clone()).collect()
    };
    assert_eq!(ids(&now), ["now"]);
    assert_eq!(now[0].envelope.metadata().attempt, 2);
    assert_eq!(ids(&soon), ["soon"]);
    assert_eq!(ids(&later), ["late", "last"]);
    assert!(wait > Duration::from_secs(500) && wait <= Duration::from_mins(10));
}

async fn lapsed_rows_are_recovered_in_the_order_of_their_batch(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &dying("a"), &["c", "a", "b"]).await;

    for lease in leases {
        assert_eq!(recovered(inbox).await.id, lease.id);
    }
}

async fn a_claim_that_moved_on_settles_nothing(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let old = insert(inbox, &dying("a"), &["1"]).await[0];
    let new = recovered(inbox).await;

    let held = settle(inbox, &[settlement(old, Status::Processed)]).await;
    let extended = inbox.extend(&holder("a"), vec![old]).await.unwrap();
    let released = inbox.release(vec![old], Duration::ZERO).await.unwrap();

    assert_eq!((held.len(), extended.len(), released), (0, 0, 0));
    assert_eq!(inbox.extend(&holder("b"), vec![new]).await.unwrap(), [new]);
    assert_eq!(
        settle(inbox, &[settlement(new, Status::Processed)]).await,
        [new]
    );
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processed, 1);
}

async fn recovered(inbox: &impl Inbox) -> eventflow::inbox::Lease {
    let lease = std::sync::Mutex::new(None);
    eventually(DEADLINE, async || {
        match inbox.recover(&holder("b")).await.unwrap() {
            Recovery::Run(row) => *lease.lock().unwrap() = Some(row.lease),
            _ => return false,
        }
        true
    })
    .await;
    lease.into_inner().unwrap().unwrap()
}

async fn a_released_row_is_due_again_with_no_attempt_counted(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["1"]).await;

    assert_eq!(inbox.release(leases, Duration::ZERO).await.unwrap(), 1);

    let rows = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].retry_count), (1, 0));
    assert_eq!(rows[0].lease.token, 2);
}

async fn a_dead_letter_is_listed_requeued_and_discarded<F: Fixture>(fixture: F) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["new", "old"]).await;
    let ids = [leases[0].id, leases[1].id];
    let dead = leases.iter().map(|&lease| Settlement {
        retry_count: 3,
        ..settlement(lease, Status::DeadLetter)
    });
    settle(inbox, &dead.collect::<Vec<_>>()).await;
    fixture
        .change(&format!(
            "UPDATE event_inbox SET last_error_at = {} WHERE event_id = 'old'",
            F::in_seconds(-60)
        ))
        .await;

    let listed = inbox.dead_letters(CONSUMER, 10).await.unwrap();
    let of_another = inbox.requeue("shipping", &ids).await.unwrap()
        + inbox.discard("shipping", &ids).await.unwrap();
    let requeued = inbox.requeue(CONSUMER, &ids[..1]).await.unwrap();
    let discarded = inbox.discard(CONSUMER, &ids).await.unwrap();

    let listed: Vec<_> = listed
        .iter()
        .map(|letter| (letter.id, letter.retry_count, letter.error_message.as_str()))
        .collect();
    assert_eq!(listed, ids.map(|id| (id, 3, "out of stock")));
    assert_eq!((of_another, requeued, discarded), (0, 1, 1));
    let rows = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].retry_count), (1, 0));
    let messages = "SELECT COALESCE(error_message, 'none') FROM event_inbox";
    assert_eq!(fixture.texts(messages).await, ["none"]);
}

async fn a_malformed_entry_is_kept_and_not_requeued(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let mut malformed = arrival("malformed:orders/1-0");
    malformed.raw = Some(vec![0, 0xff, b'x']);
    malformed.admission = Admission::DeadLetter("no \0 `event_id`".to_owned());

    let insertion = inbox.insert(&holder("a"), vec![malformed]).await.unwrap();

    assert!(insertion.rows.is_empty() && insertion.duplicates.is_empty());
    let kept = inbox.dead_letters(CONSUMER, 10).await.unwrap();
    assert_eq!(kept[0].raw.as_deref(), Some(&[0, 0xff, b'x'][..]));
    assert_eq!(kept[0].error_message, "no \u{fffd} `event_id`");
    assert_eq!(inbox.requeue(CONSUMER, &[kept[0].id]).await.unwrap(), 0);
}

async fn a_parked_row_waits_until_its_type_is_known(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let mut unknown = arrival("1");
    unknown.admission = Admission::Park;
    inbox.insert(&holder("a"), vec![unknown]).await.unwrap();

    assert!(
        inbox
            .claim(&holder("a"), Due::Later, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(inbox.next_due(CONSUMER).await.unwrap(), None);
    assert_eq!(inbox.unpark(CONSUMER, Some(&["Other"])).await.unwrap(), 0);
    assert_eq!(
        inbox.unpark(CONSUMER, Some(&["OrderPaid"])).await.unwrap(),
        1
    );
    assert_eq!(
        inbox.claim(&holder("a"), Due::Now, 9).await.unwrap().len(),
        1
    );
}

async fn a_second_lapse_counts_until_it_is_a_crash_loop(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    insert(inbox, &dying("a"), &["killer"]).await;

    let counted = std::sync::Mutex::new(Vec::new());
    eventually(DEADLINE, async || {
        match inbox.recover(&dying("b")).await.unwrap() {
            Recovery::Run(row) => counted.lock().unwrap().push(row.retry_count),
            Recovery::DeadLetter(_) => return true,
            Recovery::None => {}
        }
        false
    })
    .await;

    assert_eq!(counted.into_inner().unwrap(), [0, 1, 2]);
    let kept = inbox.dead_letters(CONSUMER, 10).await.unwrap();
    assert_eq!(kept[0].retry_count, 3);
    assert!(kept[0].error_message.starts_with("crash_loop: "));
}

async fn finished_rows_are_purged_in_batches(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["1", "2", "3", "4", "5", "6", "7"]).await;
    let states = [
        Status::Processed,
        Status::Processed,
        Status::Processed,
        Status::DeadLetter,
        Status::DeadLetter,
        Status::Failed,
    ];
    let settlements = leases.iter().zip(states);
    let settlements = settlements.map(|(&lease, status)| settlement(lease, status));
    settle(inbox, &settlements.collect::<Vec<_>>()).await;
    let purge = async |processed, dead_letter| {
        let retention = Retention {
            processed,
            dead_letter,
        };
        inbox.purge(CONSUMER, retention, 2).await.unwrap()
    };

    let (none, hour) = (Duration::ZERO, Duration::from_hours(1));
    assert_eq!(purge(hour, hour).await, 0);
    // Rows of the same millisecond are not old yet.
    eventually(DEADLINE, async || purge(none, hour).await == 2).await;
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().dead_letter, 2);
    assert_eq!(purge(none, none).await, 2);
    assert_eq!((purge(none, none).await, purge(none, none).await), (1, 0));
    let counts = inbox.counts(CONSUMER).await.unwrap();
    assert_eq!((counts.processing, counts.failed), (1, 1));
}

/// The Python package takes a row without a lease.
async fn a_row_without_a_lease_is_recovered(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    insert(inbox, &holder("a"), &["1"]).await;
    fixture
        .change("UPDATE event_inbox SET locked_by = NULL, locked_until = NULL")
        .await;

    let recovery = inbox.recover(&holder("b")).await.unwrap();

    assert!(matches!(recovery, Recovery::Run(_)), "{recovery:?}");
}

async fn the_next_lapse_is_that_of_the_lease_that_ends_first(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    assert_eq!(inbox.next_lapse(CONSUMER).await.unwrap(), None);

    let longer = Holder {
        lease: Duration::from_mins(10),
        ..holder("a")
    };
    insert(inbox, &longer, &["1"]).await;
    let alone = inbox.next_lapse(CONSUMER).await.unwrap().unwrap();
    let shorter = Holder {
        lease: Duration::from_mins(5),
        ..holder("b")
    };
    insert(inbox, &shorter, &["2"]).await;
    let both = inbox.next_lapse(CONSUMER).await.unwrap().unwrap();
    insert(inbox, &shorter, &["3"]).await;
    let none = "UPDATE event_inbox SET locked_until = NULL WHERE event_id = '3'";
    fixture.change(none).await;
    let without = inbox.next_lapse(CONSUMER).await.unwrap();

    assert!(alone > Duration::from_mins(9) && alone <= longer.lease);
    assert!(both > Duration::from_mins(4) && both <= shorter.lease);
    assert_eq!(without, Some(Duration::ZERO));
}

/// The Python package changes a row by its id alone, and leaves its lease as it is.
async fn a_row_that_another_program_finished_is_not_held(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let lease = insert(inbox, &holder("a"), &["1"]).await[0];
    fixture
        .change("UPDATE event_inbox SET status = 'processed'")
        .await;

    let extended = inbox.extend(&holder("a"), vec![lease]).await.unwrap();
    let released = inbox.release(vec![lease], Duration::ZERO).await.unwrap();
    let settled = settle(inbox, &[settlement(lease, Status::Failed)]).await;

    assert_eq!((extended.len(), released, settled.len()), (0, 0, 0));
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processed, 1);
}

async fn a_row_that_another_program_failed_is_claimed_afresh(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    insert(inbox, &dying("a"), &["1"]).await;
    recovered(inbox).await;
    fixture
        .change("UPDATE event_inbox SET status = 'failed', next_retry_at = NULL")
        .await;

    let claimed = inbox.claim(&dying("c"), Due::Now, 9).await.unwrap();
    recovered(inbox).await;

    assert_eq!(claimed.len(), 1);
    let counted = "SELECT CAST(retry_count AS TEXT) FROM event_inbox";
    assert_eq!(
        fixture.texts(counted).await,
        ["0"],
        "the lapse was the first"
    );
}

async fn fresh_and_claimed_payloads_are_the_same_bytes(fixture: impl Fixture) {
    let texts = [
        r#"{"b": 1e2, "a": -0, "a": 1.10}"#,
        r#"{"nul":"\u0000"}"#,
        r#"{"lone":"\ud800"}"#,
        r#"{"large":1e200000}"#,
    ];
    let inbox = fixture.inbox();
    let arrivals = texts.iter().enumerate().map(|(index, text)| {
        let raw = RawValue::from_string((*text).to_owned()).unwrap();
        let mut arrival = arrival(&index.to_string());
        let payload = Payload::encode("OrderPaid", &raw).unwrap();
        arrival.envelope = Envelope::from_parts(arrival.envelope.metadata().clone(), payload);
        arrival
    });

    let fresh = inbox
        .insert(&holder("a"), arrivals.collect())
        .await
        .unwrap();
    let leases = fresh.rows.iter().map(|row| row.lease).collect();
    inbox.release(leases, Duration::ZERO).await.unwrap();
    let claimed = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();

    let payloads = |rows: &[eventflow::inbox::Row]| -> Vec<Payload> {
        rows.iter()
            .map(|row| row.envelope.payload().clone())
            .collect()
    };
    assert_eq!(payloads(&fresh.rows).len(), 4);
    assert_eq!(payloads(&fresh.rows), payloads(&claimed));
    for (payload, text) in payloads(&claimed).iter().zip(texts).skip(1) {
        assert_eq!(payload.as_str(), text);
    }
}
