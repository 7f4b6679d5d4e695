//! What every outbox's table does for a relay and for who looks at it.

use std::{sync::Arc, time::Duration};

use eventflow::{
    outbox::{Demand, Fetched, Marks, Retention, Term},
    prelude::*,
};

use super::{Broker, drain, event, events, fixture::Fixture, on_each_database};

on_each_database!(
    one_holder_at_a_time_has_the_lease,
    a_lapsed_lease_is_taken_with_a_larger_number,
    a_term_that_is_over_fetches_marks_and_deletes_nothing,
    events_are_fetched_in_the_order_in_which_they_were_written,
    what_is_on_its_way_is_not_fetched_again,
    marking_twice_changes_nothing,
    an_entry_of_any_name_is_marked,
    large_events_are_fetched_a_few_at_a_time,
    an_event_comes_back_as_it_was_written,
    events_are_counted_by_state,
    old_rows_are_deleted_a_few_at_a_time,
);

const LEASE: Duration = Duration::from_mins(1);

fn holder(name: &str) -> Arc<str> {
    Arc::from(name)
}

async fn term(outbox: &impl OutboxTable) -> Term {
    let term = outbox.acquire(&holder("a"), LEASE).await.unwrap();
    term.expect("nobody holds the lease")
}

async fn advance(
    outbox: &impl OutboxTable,
    term: &Term,
    marks: Marks,
    demand: Demand,
) -> Option<Fetched> {
    let marks = Arc::new(marks);
    outbox.advance(term, marks, false, demand).await.unwrap()
}

/// Fetches with nothing to mark.
async fn fetch(outbox: &impl OutboxTable, term: &Term, events: u32) -> Fetched {
    let demand = Demand {
        events,
        besides: Vec::new(),
    };
    let fetched = advance(outbox, term, Marks::default(), demand).await;
    fetched.expect("the term lasts")
}

fn ids(fetched: &Fetched) -> Vec<&str> {
    let events = fetched.events.iter();
    events
        .map(|event| event.envelope.metadata().event_id.as_str())
        .collect()
}

async fn one_holder_at_a_time_has_the_lease(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let first = term(outbox).await;

    assert_eq!(outbox.acquire(&holder("b"), LEASE).await.unwrap(), None);
    assert!(outbox.extend(&first, LEASE).await.unwrap());
    outbox.release(&first).await.unwrap();

    let second = outbox.acquire(&holder("b"), LEASE).await.unwrap().unwrap();
    assert!(second.number > first.number);
    assert!(!outbox.extend(&first, LEASE).await.unwrap());
}

async fn a_lapsed_lease_is_taken_with_a_larger_number(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let lapsed = outbox.acquire(&holder("a"), Duration::ZERO).await.unwrap();
    eventflow_tests::eventually(super::DEADLINE, async || {
        let taken = outbox.acquire(&holder("b"), LEASE).await.unwrap();
        taken.is_some_and(|taken| taken.number == lapsed.as_ref().unwrap().number + 1)
    })
    .await;
}

/// Row N1: a relay that stood still.
async fn a_term_that_is_over_fetches_marks_and_deletes_nothing(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1", "2"])).await;
    let over = term(outbox).await;
    let row = fetch(outbox, &over, 1).await.events[0].id;
    outbox.release(&over).await.unwrap();
    let next = outbox.acquire(&holder("b"), LEASE).await.unwrap().unwrap();

    for marks in [
        Marks {
            published: vec![(row, "1-0".to_owned())],
            ..Marks::default()
        },
        Marks {
            refused: vec![(row, "too large".to_owned())],
            ..Marks::default()
        },
    ] {
        let demand = Demand {
            events: 10,
            besides: Vec::new(),
        };
        for deletes in [false, true] {
            let marks = Arc::new(marks.clone());
            let fetched = outbox.advance(&over, marks, deletes, demand.clone());
            assert!(fetched.await.unwrap().is_none());
        }
    }
    assert_eq!(fixture.in_state("pending").await, ["1", "2"]);

    publish_all(&next, outbox).await;
    let none = Retention {
        published: Duration::ZERO,
        dead_letter: Duration::ZERO,
    };
    assert_eq!(outbox.purge(&over, none, 10).await.unwrap(), 0);
    assert_eq!(fixture.in_state("published").await, ["1", "2"]);
}

/// Publishes everything as the holder of the lease.
async fn publish_all(term: &Term, outbox: &impl OutboxTable) {
    let fetched = fetch(outbox, term, 10).await;
    let published = fetched.events.iter().map(|event| (event.id, String::new()));
    let marks = Marks {
        published: published.collect(),
        ..Marks::default()
    };
    let demand = Demand {
        events: 0,
        besides: Vec::new(),
    };
    advance(outbox, term, marks, demand).await.unwrap();
}

async fn events_are_fetched_in_the_order_in_which_they_were_written(fixture: impl Fixture) {
    fixture.write(&events(&["c", "a"])).await;
    fixture.write(&events(&["b"])).await;
    let term = term(fixture.outbox()).await;

    assert_eq!(
        ids(&fetch(fixture.outbox(), &term, 10).await),
        ["c", "a", "b"]
    );
    assert_eq!(ids(&fetch(fixture.outbox(), &term, 2).await), ["c", "a"]);
}

async fn what_is_on_its_way_is_not_fetched_again(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1", "2", "3"])).await;
    let term = term(outbox).await;
    let first = fetch(outbox, &term, 2).await;

    let marks = Marks {
        published: vec![(first.events[0].id, "1-0".to_owned())],
        ..Marks::default()
    };
    let demand = Demand {
        events: 10,
        besides: vec![first.events[1].id],
    };
    let next = advance(outbox, &term, marks, demand).await.unwrap();

    assert_eq!(ids(&next), ["3"]);
    assert_eq!(fixture.in_state("published").await, ["1"]);
}

async fn marking_twice_changes_nothing(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1"])).await;
    let term = term(outbox).await;
    let row = fetch(outbox, &term, 1).await.events[0].id;
    let demand = Demand {
        events: 1,
        besides: Vec::new(),
    };

    for entry in ["1-0", "2-0"] {
        let marks = Marks {
            published: vec![(row, entry.to_owned())],
            ..Marks::default()
        };
        advance(outbox, &term, marks, demand.clone()).await.unwrap();
    }

    let entries = fixture.texts("SELECT stream_id FROM event_outbox").await;
    assert_eq!(entries, ["1-0"]);
}

async fn an_entry_of_any_name_is_marked(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1"])).await;
    let term = term(outbox).await;
    let row = fetch(outbox, &term, 1).await.events[0].id;
    let marks = Marks {
        published: vec![(row, format!("\0{}", "é".repeat(1_000)))],
        ..Marks::default()
    };
    let demand = Demand {
        events: 1,
        besides: Vec::new(),
    };

    advance(outbox, &term, marks, demand).await.unwrap();

    assert_eq!(fixture.in_state("published").await, ["1"]);
}

async fn large_events_are_fetched_a_few_at_a_time(fixture: impl Fixture) {
    #[derive(Serialize, Deserialize, Event)]
    struct Scan {
        image: String,
    }
    let image = "x".repeat(1_000_000);
    let scans = (0..9).map(|_| {
        Envelope::new(&Scan {
            image: image.clone(),
        })
        .unwrap()
    });
    fixture.write(&scans.collect::<Vec<_>>()).await;
    let term = term(fixture.outbox()).await;

    let fetched = fetch(fixture.outbox(), &term, 100).await;

    assert_eq!(fetched.events.len(), 5);
}

async fn an_event_comes_back_as_it_was_written(fixture: impl Fixture) {
    let written = event("1")
        .with_correlation_id("checkout-7")
        .with_causation_id("click-1")
        .with_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    fixture.write(std::slice::from_ref(&written)).await;
    let term = term(fixture.outbox()).await;

    let fetched = fetch(fixture.outbox(), &term, 1).await;

    let back = &fetched.events[0].envelope;
    assert_eq!(back.payload(), written.payload());
    let (back, written) = (back.metadata(), written.metadata());
    assert_eq!(back.event_type, written.event_type);
    assert_eq!(back.aggregate_id, written.aggregate_id);
    assert_eq!(back.correlation_id, written.correlation_id);
    assert_eq!(back.causation_id, written.causation_id);
    assert_eq!(back.traceparent, written.traceparent);
    let micros = |time: chrono::DateTime<chrono::Utc>| time.timestamp_micros();
    assert_eq!(micros(back.occurred_on), micros(written.occurred_on));
}

async fn events_are_counted_by_state(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let empty = outbox.counts().await.unwrap();
    assert_eq!((empty.pending, empty.lag), (0, None));
    fixture.write(&events(&["1", "2"])).await;
    let broker = Broker::default();
    broker.refuse("2", eventflow::ErrorKind::Encode);
    drain(outbox, broker).await;
    fixture.write(&events(&["3", "4", "5"])).await;
    let later = super::OrderPaid {
        order_id: Uuid::nil(),
        number: 0,
    };
    fixture.write_delayed(super::NEVER, &later).await;

    let counts = outbox.counts().await.unwrap();

    assert_eq!((counts.pending, counts.delayed), (3, 1));
    assert_eq!((counts.published, counts.dead_letter), (1, 1));
    assert!(counts.lag.is_some());
}

async fn old_rows_are_deleted_a_few_at_a_time(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    fixture.write(&events(&["1", "2", "3", "4"])).await;
    let broker = Broker::default();
    broker.refuse("4", eventflow::ErrorKind::Encode);
    drain(outbox, broker).await;
    fixture.write(&events(&["5"])).await;
    let aged = |column, id| {
        let ago = fixture_ago(&fixture);
        format!("UPDATE event_outbox SET {column} = {ago} WHERE event_id IN ({id})")
    };
    fixture.change(&aged("published_at", "'1', '2'")).await;
    fixture.change(&aged("last_error_at", "'4'")).await;
    let term = term(outbox).await;
    let retention = Retention {
        published: Duration::from_secs(50),
        dead_letter: Duration::from_secs(200),
    };

    assert_eq!(outbox.purge(&term, retention, 1).await.unwrap(), 1);
    assert_eq!(outbox.purge(&term, retention, 10).await.unwrap(), 1);
    assert_eq!(outbox.purge(&term, retention, 10).await.unwrap(), 0);

    assert_eq!(fixture.in_state("published").await, ["3"]);
    assert_eq!(fixture.in_state("dead_letter").await, ["4"]);
    let shorter = Retention {
        dead_letter: Duration::from_secs(50),
        ..retention
    };
    assert_eq!(outbox.purge(&term, shorter, 10).await.unwrap(), 1);
    assert_eq!(fixture.in_state("pending").await, ["5"]);
}

fn fixture_ago<F: Fixture>(_: &F) -> String {
    F::in_seconds(-100)
}
