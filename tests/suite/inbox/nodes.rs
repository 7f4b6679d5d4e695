//! Housekeeping by two at once: each piece of it is done once.

use std::{collections::HashSet, time::Duration};

use eventflow::inbox::{Inbox, Recovery, Retention, Status};
use uuid::Uuid;

use super::{CONSUMER, Fixture, arrival, dying, holder, insert, on_each_database, settlement};

on_each_database!(
    an_old_row_is_deleted_by_one_of_two_nodes,
    a_lapsed_row_is_recovered_by_one_of_two_nodes,
);

const ROWS: usize = 60;

fn event_ids() -> Vec<String> {
    (0..ROWS).map(|number| format!("{number:03}")).collect()
}

async fn an_old_row_is_deleted_by_one_of_two_nodes<F: Fixture>(fixture: F) {
    let ids = event_ids();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let leases = insert(fixture.inbox(), &holder("a"), &ids).await;
    let settlements = leases
        .iter()
        .map(|lease| settlement(*lease, Status::Processed));
    let settlements: Vec<_> = settlements.collect();
    fixture
        .inbox()
        .settle(&holder("a"), &settlements)
        .await
        .unwrap();
    let old = format!(
        "UPDATE event_inbox SET processed_at = {}",
        F::in_seconds(-7200)
    );
    fixture.change(&old).await;
    let retention = Retention {
        processed: Duration::from_hours(1),
        dead_letter: Duration::from_hours(1),
    };

    // As often as one node may find all that is left locked by the other.
    let node = async || {
        let mut deleted = 0;
        for _ in 0..ROWS {
            let purging = fixture.inbox().purge(CONSUMER, retention, 7);
            deleted += purging.await.unwrap();
        }
        deleted
    };
    let (one, other) = tokio::join!(node(), node());

    assert_eq!(one + other, ROWS as u64);
}

async fn a_lapsed_row_is_recovered_by_one_of_two_nodes<F: Fixture>(fixture: F) {
    let arrivals = event_ids().iter().map(|id| arrival(id)).collect();
    fixture
        .inbox()
        .insert(&dying("dead"), arrivals)
        .await
        .unwrap();

    let node = async |name: &'static str| {
        let mut recovered: Vec<Uuid> = Vec::new();
        for _ in 0..ROWS {
            if let Recovery::Run(row) = fixture.inbox().recover(&holder(name)).await.unwrap() {
                recovered.push(row.lease.id);
            }
        }
        recovered
    };
    let (one, other) = tokio::join!(node("a"), node("b"));

    let all: HashSet<_> = one.iter().chain(&other).collect();
    assert_eq!((one.len() + other.len(), all.len()), (ROWS, ROWS));
}
