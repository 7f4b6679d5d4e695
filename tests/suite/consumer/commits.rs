//! Commits whose answer does not come: the rows say whether they were stored.

use eventflow::{Sink, Source, prelude::*};
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    running::Running,
    shop::{Database, Postgres, Script, Shop, names},
    work::{Runs, Work, WorkRequested, WorkState, create_effects, effects, rows_in},
};
use sqlx::PgPool;

use super::DEADLINE;

/// A session that waits for a standby has committed already; ended there, it gives no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_stored_and_not_answered_is_not_run_again() {
    let mut server = PostgresServer::start().await;
    let url = server.create_database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        // Only one unit of work waits for the standby.
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    pool.close().await;
    server.kill();
    server.start_again().await;
    let pool = PgPool::connect(&url).await.unwrap();
    create_effects(&pool).await;
    for sql in [
        "CREATE SEQUENCE commits",
        "CREATE FUNCTION wait_for_standby() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF nextval('commits') = 1 THEN
                PERFORM set_config('synchronous_commit', 'on', true);
            END IF;
            RETURN NEW;
         END $$",
        "CREATE TRIGGER wait_for_standby AFTER INSERT ON effects
         FOR EACH ROW EXECUTE FUNCTION wait_for_standby()",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    let inbox = PgInbox::connect(&url).await.unwrap();
    inbox.migrate().await.unwrap();
    let stream = MemoryStream::new("work").group("billing");
    stream.open().await.unwrap();
    let event = || Envelope::new(&WorkRequested::taking(0)).unwrap();
    stream.send(&[event()]).await.unwrap();
    let runs = Runs::default();
    let state = WorkState {
        name: "rust".to_owned(),
        runs: runs.clone(),
    };

    let consumer = Consumer::builder(stream.clone(), inbox, Work::new(state)).workers(1);
    let running = Running::start(consumer.build().unwrap());
    eventually(DEADLINE, async || {
        let ended: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        !ended.is_empty()
    })
    .await;
    // The worker takes it when it is done with the first.
    stream.send(&[event()]).await.unwrap();
    eventually(DEADLINE, async || rows_in(&pool, "processed").await == 2).await;
    let report = running.stop().await;

    assert_eq!(effects(&pool).await, (2, 2));
    assert_eq!(runs.count(), 2);
    assert_eq!((report.units_lost, report.failed), (1, 0), "{report}");
}

/// The session ends in the middle of its commit, which then never was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_cut_and_not_stored_runs_again() {
    let shop = Shop::<Postgres>::open().await;
    for sql in [
        "CREATE SEQUENCE commits",
        "CREATE FUNCTION end_the_first() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN NEW;
         END $$",
        "CREATE CONSTRAINT TRIGGER end_the_first AFTER INSERT ON effects
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_the_first()",
    ] {
        shop.database.change(sql).await;
    }
    shop.orders(0..3).await;

    let consumer = shop.consumer(Script::new()).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (3, 0), "{report}");
    assert_eq!((report.units_lost, report.handed_back), (1, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..3));
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
}
