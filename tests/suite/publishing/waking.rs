//! A consumer's commit wakes the relay of its process, however each has got the outbox.

use std::time::Duration;

use eventflow::{Source, prelude::*};
use eventflow_tests::{
    eventually,
    running::Running,
    shop::{Database, ParcelShipped, Script, Shop},
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

on_every_database!(a_commit_wakes_the_relay_of_its_process);

const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than the test lasts: what happens before is not by polling.
const NEVER: Duration = Duration::from_mins(10);

async fn a_commit_wakes_the_relay_of_its_process<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::new().on_order(|call| {
        async move {
            let number = call.event.number;
            call.outbox.publish(&ParcelShipped { number })?;
            Ok(())
        }
        .boxed()
    });
    let running = Running::start(shop.consumer(script).build().unwrap());
    let shipped = MemoryStream::new("shipped").group("carrier");
    shipped.open().await.unwrap();
    let relay = Relay::builder(shop.inbox().outbox(), shipped.clone()).poll_interval(NEVER);
    let relay = relay.build().unwrap();
    let handle = relay.handle();
    let (ending, ended) = oneshot::channel::<()>();
    let relaying = tokio::spawn(relay.run_until(ended));

    // One after the other: the relay sleeps before each.
    for number in 0..3 {
        shop.orders(number..number + 1).await;
        let published = u64::from(number) + 1;
        eventually(DEADLINE, async || handle.report().published == published).await;
    }

    ending.send(()).unwrap();
    relaying.await.unwrap().unwrap();
    running.stop().await;
}
