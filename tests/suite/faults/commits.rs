//! Row P1: a commit's answer does not come, and the rows say whether it was stored.

use std::time::Duration;

use eventflow::{Report, Sink, Source, prelude::*};
use eventflow_tests::{
    eventually,
    gate::Gate,
    postgres::PostgresServer,
    running::Running,
    shop::{OnPostgres, Script, Shop, names},
    work::{Runs, Work, WorkRequested, WorkState, create_effects, effects, rows_in},
};
use sqlx::{AssertSqlSafe, PgPool};

use super::DEADLINE;

on_postgres!(
    p1_handlers_commit_stored_and_not_answered,
    p1_batch_stored_and_not_answered,
    p1_handlers_commit_cut_and_not_stored,
    p1_in_order_the_next_event_runs_at_once,
);

inline_on_postgres!(p1_what_a_commit_without_answer_has_left_runs_at_once);

/// A server on which the first commit of an insert into this table waits for a standby that never
/// comes. A session that waits for a standby has committed already; ended there, it gives no answer.
async fn first_commit_hangs(table: &str) -> (PostgresServer, PgPool) {
    let mut server = PostgresServer::start().await;
    let url = server.create_database().await;
    server
        .run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        .await;
    let pool = PgPool::connect(&url).await.unwrap();
    let inbox = PgInbox::connect(&url).await.unwrap();
    inbox.migrate().await.unwrap();
    create_effects(&pool).await;
    for sql in [
        // Only one commit waits for the standby.
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$".to_owned(),
        "CREATE SEQUENCE commits".to_owned(),
        "CREATE FUNCTION wait_for_standby() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF nextval('commits') = 1 THEN
                PERFORM set_config('synchronous_commit', 'on', true);
            END IF;
            RETURN NULL;
         END $$".to_owned(),
        format!("CREATE TRIGGER wait_for_standby AFTER INSERT ON {table}
         FOR EACH STATEMENT EXECUTE FUNCTION wait_for_standby()"),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    pool.close().await;
    server.restart().await;
    (server, PgPool::connect(&url).await.unwrap())
}

/// Ends the session whose commit hangs.
async fn end_the_commit(pool: &PgPool) {
    eventually(DEADLINE, async || {
        let ended: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        !ended.is_empty()
    })
    .await;
}

/// The inbox on the server, and a stream of events for it.
async fn open(server: &PostgresServer, pool: &PgPool) -> (PgInbox, MemoryStream) {
    let options = pool.connect_options();
    let database = options.get_database().expect("the test has made one");
    let inbox = PgInbox::connect(&server.url(database)).await.unwrap();
    let stream = MemoryStream::new("work").group("billing");
    stream.open().await.unwrap();
    (inbox, stream)
}

/// Two events, of which the first meets the commit that hangs; answers what was counted, and how
/// often the handler ran.
async fn ended_in_its_commit<D: OnPostgres>(
    server: &PostgresServer,
    pool: &PgPool,
) -> (Report, u64) {
    let (inbox, stream) = open(server, pool).await;
    let event = || Envelope::new(&WorkRequested::taking(0)).unwrap();
    stream.send(&[event()]).await.unwrap();
    let runs = Runs::default();
    let state = WorkState {
        name: "rust".to_owned(),
        runs: runs.clone(),
    };

    let consumer = Consumer::builder(stream.clone(), inbox, Work::new(state));
    let consumer = D::MODE.set(consumer).workers(1);
    let running = Running::start(consumer.build().unwrap());
    end_the_commit(pool).await;
    // It is taken when the first is done with.
    stream.send(&[event()]).await.unwrap();
    eventually(DEADLINE, async || rows_in(pool, "processed").await == 2).await;
    let report = running.stop().await;
    assert_eq!(stream.pending(), 0);
    (report, runs.count())
}

/// The commit has passed the turn on, and told nobody; nobody looks by himself before the test is over.
async fn p1_in_order_the_next_event_runs_at_once<D: OnPostgres>() {
    const NEVER: Duration = Duration::from_mins(10);

    let (server, pool) = first_commit_hangs("effects").await;
    let (inbox, stream) = open(&server, &pool).await;
    let aggregate = Uuid::now_v7();
    let events = [0, 0].map(|takes| {
        let envelope = Envelope::new(&WorkRequested::taking(takes)).unwrap();
        envelope.with_aggregate_id(aggregate)
    });
    stream.send(&events).await.unwrap();
    let state = WorkState {
        name: "rust".to_owned(),
        runs: Runs::default(),
    };

    let consumer = Consumer::builder(stream, inbox, Work::new(state)).ordered();
    let consumer = D::MODE.set(consumer).lease(NEVER).poll_interval(NEVER);
    let running = Running::start(consumer.build().unwrap());
    end_the_commit(&pool).await;
    eventually(DEADLINE, async || rows_in(&pool, "processed").await == 2).await;
    let report = running.stop().await;

    assert_eq!(effects(&pool).await, (2, 2));
    assert_eq!((report.units_lost, report.unconfirmed), (1, 1), "{report}");
}

/// Inline the batch is stored by that commit too, and looked up when it is to be stored again.
async fn p1_handlers_commit_stored_and_not_answered<D: OnPostgres>() {
    let (server, pool) = first_commit_hangs("effects").await;

    let (report, runs) = ended_in_its_commit::<D>(&server, &pool).await;

    assert_eq!(effects(&pool).await, (2, 2));
    assert_eq!(runs, 2, "what was stored was run again");
    assert_eq!((report.units_lost, report.failed), (1, 0), "{report}");
    let unconfirmed = u64::from(!D::MODE.inline);
    assert_eq!(report.processed, 1, "{report}");
    assert_eq!(report.unconfirmed, unconfirmed, "{report}");
    assert_eq!((report.stored, report.duplicates), (2, 0), "{report}");
}

/// The row is there when the batch is stored again, and leased to a worker that does not know of
/// it; it is no duplicate.
async fn p1_batch_stored_and_not_answered<D: OnPostgres>() {
    let (server, pool) = first_commit_hangs("event_inbox").await;

    let (report, runs) = ended_in_its_commit::<D>(&server, &pool).await;

    assert_eq!(effects(&pool).await, (2, 2));
    assert_eq!(runs, 2);
    assert_eq!((report.stored, report.duplicates), (2, 0), "{report}");
    assert_eq!((report.failed, report.recovered), (0, 0), "{report}");
}

/// A layer holds the second event back, so that the unit commits what it has, and leaves the row leased
/// to nobody who knows of it.
async fn p1_what_a_commit_without_answer_has_left_runs_at_once<D: OnPostgres>() {
    let (server, pool) = first_commit_hangs("effects").await;
    let (inbox, stream) = open(&server, &pool).await;
    let event = || Envelope::new(&WorkRequested::taking(0)).unwrap();
    stream.send(&[event(), event()]).await.unwrap();
    let gate = Gate::new();

    let consumer = Consumer::builder(stream.clone(), inbox, Work::new(WorkState::default()));
    let consumer = D::MODE.set(consumer).workers(1);
    let consumer = consumer.layer(gate.holding_back(2)).build().unwrap();
    let running = Running::start(consumer);
    gate.entered().await;
    end_the_commit(&pool).await;
    gate.open();

    eventually(DEADLINE, async || rows_in(&pool, "processed").await == 2).await;
    let report = running.stop().await;
    assert_eq!(effects(&pool).await, (2, 2));
    assert_eq!((report.units_lost, report.failed), (1, 0), "{report}");
    assert_eq!(report.recovered, 0, "{report}");
    assert_eq!(stream.pending(), 0);
}

/// The session ends in the middle of its commit, which then never was.
async fn p1_handlers_commit_cut_and_not_stored<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
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
