//! The behaviour that every stream has.

use std::{collections::HashSet, time::Duration};

use eventflow::{
    ErrorKind,
    envelope::wire,
    stream::{Batch, Sink, Source},
};

use super::{DEADLINE, Fixture, envelopes, ids, read_all};

const HOUR: Duration = Duration::from_hours(1);

pub(super) async fn an_entry_goes_to_one_consumer_of_its_group<F: Fixture>(fixture: F) {
    let first = fixture.consumer(&["orders"], "billing", "first").await;
    let second = fixture.consumer(&["orders"], "billing", "second").await;
    let published = first.send(&envelopes(0..4)).await.unwrap();

    let one = first.read(2, None).await.unwrap();
    let other = second.read(10, None).await.unwrap();

    assert_eq!(ids(&one), published[..2]);
    assert_eq!(ids(&other), published[2..]);
    assert!(first.read(10, None).await.unwrap().is_empty());
}

pub(super) async fn every_group_gets_every_entry<F: Fixture>(fixture: F) {
    let shop = fixture.publisher("orders").await;
    let published = shop.send(&envelopes(0..3)).await.unwrap();
    let billing = fixture.consumer(&["orders"], "billing", "first").await;
    let shipping = fixture.consumer(&["orders"], "shipping", "first").await;

    let billed = billing.read(10, None).await.unwrap();
    let shipped = shipping.read(10, None).await.unwrap();

    assert_eq!(ids(&billed), published);
    assert_eq!(ids(&shipped), published);
    assert!(!billed.redelivered);
}

pub(super) async fn entries_keep_their_order_and_tell_their_ids<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let sent = envelopes(0..300);

    let published = stream.send(&sent).await.unwrap();

    let mut names = Vec::new();
    while names.len() < sent.len() {
        let batch = stream.read(100, None).await.unwrap();
        assert!(!batch.is_empty() && batch.entries.len() <= 100);
        for entry in batch.entries {
            assert_eq!(entry.id, published[names.len()]);
            let envelope = wire::read(&entry, wire::Limits::default()).unwrap();
            names.push(envelope.metadata().event_id.clone());
        }
    }
    let expected: Vec<_> = sent
        .iter()
        .map(|envelope| envelope.metadata().event_id.clone())
        .collect();
    assert_eq!(names, expected);
}

pub(super) async fn fields_keep_their_bytes_and_their_order<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let fields: [(&[u8], &[u8]); 4] = [
        (b"b", b"\xff\0\r\n"),
        (b"a", b""),
        (b"b", b"again"),
        (b"\xfe", b"1"),
    ];

    let id = fixture.publish_raw("orders", &fields).await;

    let batch = stream.read(10, None).await.unwrap();
    assert_eq!(batch.entries[0].id.id, id);
    let expected = fields.map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert_eq!(batch.entries[0].fields, expected);
}

pub(super) async fn an_entry_is_pending_until_it_is_acknowledged<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    stream.send(&envelopes(0..3)).await.unwrap();
    let read = ids(&stream.read(10, None).await.unwrap());

    stream.acknowledge(&read[1..2]).await.unwrap();
    stream.acknowledge(&read[1..2]).await.unwrap();

    let restarted = fixture.consumer(&["orders"], "billing", "first").await;
    let again = restarted.read(10, None).await.unwrap();
    assert_eq!(ids(&again), [read[0].clone(), read[2].clone()]);
    assert!(again.redelivered);
    restarted.acknowledge(&read).await.unwrap();
    let restarted = fixture.consumer(&["orders"], "billing", "first").await;
    assert!(restarted.read(10, None).await.unwrap().is_empty());
}

pub(super) async fn own_pending_entries_come_first_after_a_restart<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let published = stream.send(&envelopes(0..5)).await.unwrap();
    assert_eq!(stream.read(3, None).await.unwrap().entries.len(), 3);

    let restarted = fixture.consumer(&["orders"], "billing", "first").await;
    let pages = [
        restarted.read(2, Some(DEADLINE)).await.unwrap(),
        restarted.read(2, Some(DEADLINE)).await.unwrap(),
        restarted.read(2, Some(DEADLINE)).await.unwrap(),
    ];

    assert_eq!(ids(&pages[0]), published[..2]);
    assert_eq!(ids(&pages[1]), published[2..3]);
    assert_eq!(ids(&pages[2]), published[3..]);
    let redelivered = pages.map(|page| page.redelivered);
    assert_eq!(redelivered, [true, true, false]);
}

pub(super) async fn own_pending_entries_come_first_after_an_error<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let published = stream.send(&envelopes(0..3)).await.unwrap();
    assert_eq!(stream.read(2, None).await.unwrap().entries.len(), 2);

    fixture.disconnect(&stream).await;
    let error = stream.read(10, Some(DEADLINE)).await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    let again = stream.read(10, Some(DEADLINE)).await.unwrap();
    assert_eq!(ids(&again), published[..2]);
    let fresh = stream.read(10, Some(DEADLINE)).await.unwrap();
    assert_eq!(ids(&fresh), published[2..]);
}

pub(super) async fn entries_idle_for_long_enough_can_be_claimed<F: Fixture>(fixture: F) {
    let dead = fixture.consumer(&["orders"], "billing", "dead").await;
    let published = dead.send(&envelopes(0..5)).await.unwrap();
    assert_eq!(dead.read(10, None).await.unwrap().entries.len(), 5);
    let living = fixture.consumer(&["orders"], "billing", "living").await;

    let too_early = living.claim(HOUR, 10).await.unwrap();
    let claimed = living.claim(Duration::ZERO, 10).await.unwrap();

    assert_eq!(too_early, Batch::default());
    assert_eq!(ids(&claimed), published);
    assert!(claimed.redelivered);
    let restarted = fixture.consumer(&["orders"], "billing", "dead").await;
    assert!(restarted.read(10, None).await.unwrap().is_empty());
    living.acknowledge(&published).await.unwrap();
    let nothing = living.claim(Duration::ZERO, 10).await.unwrap();
    assert_eq!(nothing, Batch::default());
}

pub(super) async fn claims_go_on_until_nothing_is_left<F: Fixture>(fixture: F) {
    let streams = ["orders", "payments"];
    let dead = fixture.consumer(&streams, "billing", "dead").await;
    dead.send(&envelopes(0..25)).await.unwrap();
    fixture.publish_raw("payments", &[(b"a", b"b")]).await;
    assert_eq!(read_all(&dead, 26).await.len(), 26);
    let living = fixture.consumer(&streams, "billing", "living").await;

    let mut claimed = HashSet::new();
    loop {
        let batch = living.claim(Duration::ZERO, 4).await.unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.entries.len() <= 4);
        living.acknowledge(&ids(&batch)).await.unwrap();
        claimed.extend(ids(&batch));
    }

    assert_eq!(claimed.len(), 26);
}

pub(super) async fn trimmed_entries_are_told_apart<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let published = stream.send(&envelopes(0..2)).await.unwrap();
    assert_eq!(stream.read(10, None).await.unwrap().entries.len(), 2);
    fixture.trim("orders").await;

    let restarted = fixture.consumer(&["orders"], "billing", "first").await;
    let read = restarted.read(10, None).await.unwrap();

    assert_eq!(read.trimmed, published);
    assert!(read.entries.is_empty());
    let other = fixture.consumer(&["orders"], "billing", "second").await;
    let claimed = other.claim(Duration::ZERO, 10).await.unwrap();
    assert_eq!(claimed.trimmed, published);
    assert!(claimed.entries.is_empty());
    other.acknowledge(&published).await.unwrap();
    let nothing = other.claim(Duration::ZERO, 10).await.unwrap();
    assert_eq!(nothing, Batch::default());
}

pub(super) async fn a_waiting_read_wakes_when_something_is_published<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let reading = stream.read(10, Some(DEADLINE * 2));
    let publishing = async {
        fixture.wait_until_read_waits().await;
        stream.send(&envelopes(0..1)).await.unwrap()
    };

    let both = futures_util::future::join(reading, publishing);
    let (batch, published) = tokio::time::timeout(DEADLINE, both).await.unwrap();

    assert_eq!(ids(&batch.unwrap()), published);
}

pub(super) async fn a_waiting_read_ends_when_it_is_interrupted<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;
    let reading = stream.read(10, Some(DEADLINE * 2));
    let interrupting = async {
        fixture.wait_until_read_waits().await;
        stream.interrupt().await;
    };

    let both = futures_util::future::join(reading, interrupting);
    let (batch, ()) = tokio::time::timeout(DEADLINE, both).await.unwrap();

    assert_eq!(batch.unwrap(), Batch::default());
}

pub(super) async fn an_interruption_before_a_read_ends_it_too<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;

    stream.interrupt().await;

    let reading = stream.read(10, Some(DEADLINE * 2));
    let batch = tokio::time::timeout(DEADLINE, reading).await.unwrap();
    assert_eq!(batch.unwrap(), Batch::default());
}

pub(super) async fn a_read_of_nothing_ends_with_its_wait<F: Fixture>(fixture: F) {
    let stream = fixture.consumer(&["orders"], "billing", "first").await;

    let batch = stream.read(10, Some(Duration::from_millis(20))).await;

    assert_eq!(batch.unwrap(), Batch::default());
}

pub(super) async fn several_streams_are_read_together<F: Fixture>(fixture: F) {
    let streams = ["orders", "payments", "refunds"];
    let stream = fixture.consumer(&streams, "billing", "first").await;
    for name in streams {
        for _ in 0..5 {
            fixture.publish_raw(name, &[(b"a", b"b")]).await;
        }
    }

    let mut seen = HashSet::new();
    // As many as there are streams, and fewer.
    for count in [3, 2].into_iter().cycle() {
        let batch = stream.read(count, None).await.unwrap();
        assert!(batch.entries.len() <= count);
        if batch.is_empty() && seen.len() == 15 {
            break;
        }
        stream.acknowledge(&ids(&batch)).await.unwrap();
        seen.extend(ids(&batch));
    }

    let restarted = fixture.consumer(&streams, "billing", "first").await;
    assert!(restarted.read(10, None).await.unwrap().is_empty());
}

pub(super) async fn a_stream_without_a_group_only_publishes<F: Fixture>(fixture: F) {
    let publisher = fixture.publisher("orders").await;

    let error = publisher.open().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("group"), "{error}");
    assert_eq!(publisher.send(&envelopes(0..1)).await.unwrap().len(), 1);
}

/// Makes a test of every case on one fixture.
macro_rules! conformance {
    ($fixture:ty) => {
        conformance!($fixture:
            an_entry_goes_to_one_consumer_of_its_group,
            every_group_gets_every_entry,
            entries_keep_their_order_and_tell_their_ids,
            fields_keep_their_bytes_and_their_order,
            an_entry_is_pending_until_it_is_acknowledged,
            own_pending_entries_come_first_after_a_restart,
            own_pending_entries_come_first_after_an_error,
            entries_idle_for_long_enough_can_be_claimed,
            claims_go_on_until_nothing_is_left,
            trimmed_entries_are_told_apart,
            a_waiting_read_wakes_when_something_is_published,
            a_waiting_read_ends_when_it_is_interrupted,
            an_interruption_before_a_read_ends_it_too,
            a_read_of_nothing_ends_with_its_wait,
            several_streams_are_read_together,
            a_stream_without_a_group_only_publishes,
        );
    };
    ($fixture:ty: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let fixture = <$fixture as crate::stream::Fixture>::start().await;
                crate::stream::cases::$case(fixture).await;
            }
        )*
    };
}

pub(super) use conformance;
