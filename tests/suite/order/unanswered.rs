//! A commit that was not answered, and was stored, has passed its turns on.

use std::time::Duration;

use eventflow::Envelope;
use eventflow_tests::{shop::Database, site::Site, work::WorkRequested, worker::Worker};
use uuid::Uuid;

/// Beyond the deadline of what is waited for.
const NEVER: Duration = Duration::from_mins(10);

on_every_database!(the_next_event_runs_at_once_after_a_commit_without_an_answer,);

async fn the_next_event_runs_at_once_after_a_commit_without_an_answer<D: Database>() {
    let site = Site::<D>::start().await;
    let aggregate = Uuid::now_v7();
    let envelopes = [0; 5].map(|takes| {
        let envelope = Envelope::new(&WorkRequested::taking(takes)).unwrap();
        envelope.with_aggregate_id(aggregate)
    });
    let ids = site.publish_envelopes(&envelopes).await;
    let mut config = site.worker();
    config.ordered = true;
    (config.lease, config.poll) = (NEVER, NEVER);
    let mut worker = Worker::start_to_fail(&config, "after_settle_commit=fail*3");

    site.await_rows("processed", &ids).await;
    worker.stop().await;

    assert_eq!(site.effects().await, ids);
    assert_eq!(site.column("retry_count").await, ["0"; 5]);
}
