//! Two consumers share the work of one group.

use eventflow::prelude::*;
use eventflow_tests::work::{WorkRequested, effects};

use super::{Running, Site};

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_events_with_duplicates_have_one_effect_each() {
    let site = Site::start().await;
    let sink = site.sink().await;
    let first = Running::start(&site, "billing", "first").await;
    let second = Running::start(&site, "billing", "second").await;

    for batch in 0..20 {
        let mut envelopes: Vec<Envelope> = (0..100)
            .map(|_| Envelope::new(&WorkRequested::taking(0)).unwrap())
            .collect();
        let duplicates: Vec<Envelope> = envelopes
            .iter()
            .skip(batch % 5)
            .step_by(5)
            .cloned()
            .collect();
        envelopes.extend(duplicates);
        sink.send(&envelopes).await.unwrap();
    }
    site.await_rows("processed", 2_000).await;
    eventflow_tests::eventually(std::time::Duration::from_secs(30), async || {
        site.pending("billing").await == 0
    })
    .await;
    let reports = [first.stop().await, second.stop().await];

    assert_eq!(effects(&site.pool).await, (2_000, 2_000));
    let sum = |count: fn(&eventflow::Report) -> u64| reports.iter().map(count).sum::<u64>();
    assert_eq!(sum(|report| report.processed), 2_000);
    // A consumer that is slow may lose entries to the other one, which finds them to be duplicates.
    let read = sum(|report| report.read);
    assert!(read >= 2_400, "{read}");
    assert_eq!(sum(|report| report.duplicates), read - 2_000);
    assert!(reports.iter().all(|report| report.read > 0));
}
