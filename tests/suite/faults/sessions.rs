//! Row P1: Postgres restarts, or ends a session, while a batch is stored or a handler runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eventflow::{Envelope, Failure};
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    shop::{OnPostgres, Script, Shop, names},
    site::Site,
    work::WorkRequested,
    worker::{Worker, WorkerConfig},
};
use futures_util::FutureExt;

use super::{DEADLINE, held_up, holding_up};

on_postgres!(
    p1_session_ended_while_it_inserts,
    p1_server_killed_while_it_inserts,
    p1_restart_while_handlers_run,
    p1_session_ended_in_a_handlers_statement,
);

/// A site on a server of its own, and a worker whose leases outlast the test: what is not finished
/// by this process is not finished at all.
async fn site<D: OnPostgres>() -> (PostgresServer, Site<D>, WorkerConfig) {
    let server = PostgresServer::start().await;
    let database = D::of(&server.create_database().await).await;
    let site = Site::on(database).await;
    let config = WorkerConfig {
        lease: Duration::from_hours(1),
        // However long the server takes to start again, the entries stay those of who has read them.
        claim_idle: Duration::from_hours(1),
        ..site.worker()
    };
    (server, site, config)
}

/// Events of which the third holds up the batch, as long as the answered session lives.
async fn a_batch_that_is_held_up(
    site: &Site<impl OnPostgres>,
) -> (sqlx::PgConnection, Vec<String>) {
    let envelope = |_| Envelope::new(&WorkRequested::taking(0)).unwrap();
    let envelopes: Vec<_> = (0..5).map(envelope).collect();
    let beside = holding_up(&site.database, &envelopes[2].metadata().event_id).await;
    let ids = site.publish_envelopes(&envelopes).await;
    (beside, ids)
}

/// Each event has one effect, none has a failed run or was seen twice.
async fn done_once(site: &Site<impl OnPostgres>, mut worker: Worker, ids: &[String]) {
    site.await_rows("processed", ids).await;
    site.await_acknowledged("billing").await;
    let report = worker.stop().await;
    assert_eq!(site.effects().await, ids);
    assert_eq!(site.column("retry_count").await, vec!["0"; ids.len()]);
    assert_eq!(report.count("failed"), 0, "{report:?}");
    assert_eq!(report.count("recovered"), 0, "{report:?}");
    assert_eq!(report.count("duplicates"), 0, "{report:?}");
}

async fn p1_session_ended_while_it_inserts<D: OnPostgres>() {
    let site = Site::<D>::start().await;
    let (beside, ids) = a_batch_that_is_held_up(&site).await;
    let worker = Worker::start(&WorkerConfig {
        lease: Duration::from_hours(1),
        claim_idle: Duration::from_hours(1),
        ..site.worker()
    });
    eventually(DEADLINE, async || !held_up(&site.database).await.is_empty()).await;
    let first = held_up(&site.database).await.remove(0);

    let end = format!("SELECT pg_terminate_backend({first})::text");
    assert_eq!(site.database.texts(end).await, ["true"]);

    // It tries again, and nothing is acknowledged before the rows are committed.
    eventually(DEADLINE, async || {
        let waiting = held_up(&site.database).await;
        waiting.iter().any(|process| *process != first)
    })
    .await;
    assert_eq!(site.pending("billing").await, 5);
    drop(beside);
    done_once(&site, worker, &ids).await;
}

async fn p1_server_killed_while_it_inserts<D: OnPostgres>() {
    let (mut server, site, config) = site::<D>().await;
    let (_beside, ids) = a_batch_that_is_held_up(&site).await;
    let worker = Worker::start(&config);
    eventually(DEADLINE, async || !held_up(&site.database).await.is_empty()).await;

    server.kill();

    worker.logs_say("storing a batch").await;
    assert_eq!(site.pending("billing").await, 5);
    server.start_again().await;
    done_once(&site, worker, &ids).await;
}

async fn p1_restart_while_handlers_run<D: OnPostgres>() {
    let (mut server, site, config) = site::<D>().await;
    let worker = Worker::start(&config);
    let ids = site
        .publish((0..4).map(|_| WorkRequested::taking(1_000)))
        .await;
    worker.logs_say("work begins").await;

    server.restart().await;

    worker.logs_say("a unit of work lost its transaction").await;
    done_once(&site, worker, &ids).await;
}

/// Whatever the handler makes of the error: the session says by itself that it is gone.
async fn p1_session_ended_in_a_handlers_statement<D: OnPostgres>() {
    const END: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

    let shop = Shop::<D>::open().await;
    let runs: Arc<[AtomicU32; 5]> = Arc::default();
    let counted = Arc::clone(&runs);
    let script = Script::<D>::new().on_order(move |mut call| {
        let number = call.event.number;
        let run = counted[number as usize].fetch_add(1, Ordering::SeqCst);
        async move {
            call.write().await?;
            // The others of its unit run once more than it, alone: the second run of each.
            if run > 0 {
                return Ok(());
            }
            match number {
                1 => Ok(call.execute(END).await?),
                2 => {
                    call.execute(END).await.unwrap_err();
                    Ok(())
                }
                3 => {
                    let error = call.execute(END).await.unwrap_err();
                    Err(Failure::dead_letter(error.to_string()))
                }
                _ => Ok(()),
            }
        }
        .boxed()
    });
    shop.orders(0..5).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    // Those of a share that have a savepoint in common find out together.
    let lost = if D::MODE.replay_safe && !D::MODE.inline {
        2
    } else {
        3
    };
    assert_eq!((report.processed, report.units_lost), (5, lost), "{report}");
    assert_eq!((report.failed, report.dead_lettered), (0, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..5));
    for number in 0..5 {
        let row = format!("order-{number}");
        assert_eq!(shop.column(&row, "retry_count").await, "0", "{row}");
    }
}
