//! Row K9: an event that ends every process that runs it.

use eventflow_tests::{
    shop::Database,
    site::Site,
    work::{End, WorkRequested},
    worker::Worker,
};

use super::DEADLINE;

on_every_database!(k9_one_killer_among_a_hundred_is_a_dead_letter);

/// Alone it may die three times, as often as an event may fail.
const DEATHS_ALONE: usize = 3;

async fn k9_one_killer_among_a_hundred_is_a_dead_letter<D: Database>() {
    let site = Site::<D>::start().await;
    let work = |count| (0..count).map(|_| WorkRequested::taking(0));
    let mut harmless = site.publish(work(50)).await;
    let killer = site.publish([WorkRequested::ending(End::Abort)]).await;
    harmless.extend(site.publish(work(49)).await);
    harmless.sort();

    let mut deaths = 0;
    let survivor = tokio::time::timeout(3 * DEADLINE, async {
        loop {
            let mut worker = Worker::start(&site.worker());
            tokio::select! {
                _ = worker.exit() => deaths += 1,
                () = site.await_rows("dead_letter", &killer) => return worker,
            }
        }
    });
    let mut survivor = survivor.await.expect("some worker survives");
    site.await_rows("processed", &harmless).await;
    let report = survivor.stop().await;

    // A death in a batch is charged to no event. Inline nothing is left of it but the entries, which
    // are stored when they come again, and run in a batch once more.
    let deaths_in_batches = if D::MODE.inline { 2 } else { 1 };
    assert_eq!(deaths, deaths_in_batches + DEATHS_ALONE);
    assert_eq!(harmless.len(), 99);
    assert_eq!(site.effects().await, harmless);
    assert_eq!(report.count("crash_looped"), 1, "{report:?}");
    let reasons = site.column("error_message").await;
    let reasons: Vec<_> = reasons.iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].starts_with("crash_loop"), "{reasons:?}");
    assert_eq!(site.pending("billing").await, 0);
}
