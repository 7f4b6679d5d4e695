//! What Postgres reads for a statement, and what it answers, however much lies in the table.

use std::{fmt::Write as _, time::Duration};

use eventflow::{Payload, inbox::Due, prelude::*};
use serde_json::value::RawValue;

use super::{
    arrival,
    fixture::{Fixture, Postgres},
    holder,
};

/// JSONB writes `1e1000` out, which makes a text 150 times as long.
#[tokio::test]
async fn a_payload_of_large_numbers_comes_back_as_short_as_it_was_sent() {
    let fixture = Postgres::start().await;
    let inbox = fixture.inbox();
    let mut text = r#"{"a":[1e1000"#.to_owned();
    while text.len() < 1024 * 1024 - 16 {
        text.push_str(",1e1000");
    }
    write!(text, "]}}").unwrap();
    let raw = RawValue::from_string(text.clone()).unwrap();
    let mut large = arrival("large");
    large.payload = Payload::encode("OrderPaid", &raw).unwrap();

    let fresh = inbox.insert(&holder("a"), vec![large]).await.unwrap();
    let leases = fresh.rows.iter().map(|row| row.lease).collect();
    inbox.release(leases, Duration::ZERO).await.unwrap();
    let claimed = inbox.claim(&holder("b"), Due::Now, 10).await.unwrap();

    for rows in [fresh.rows, claimed] {
        assert_eq!(rows.len(), 1);
        let payload = rows[0].envelope.payload().as_str();
        assert_eq!(payload.len(), text.len());
        assert!(payload == text);
    }
    let column = fixture.texts("SELECT payload::text FROM event_inbox").await;
    assert_eq!(column, ["{}"]);
}
