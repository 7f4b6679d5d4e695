//! No password reaches a log, an error, a panic or a `Debug`, at any level and whatever happens.

use std::time::Duration;

use eventflow::{RedisStream, prelude::*};
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    redis::RedisServer,
    shop::{Database, GROUP, OnPostgres, Postgres, Script, router},
    site::Site,
    work::{End, WorkRequested},
    worker::{InboxAt, Worker, WorkerConfig},
};
use sqlx::PgPool;

/// Part of each password here, as it is and percent-encoded.
const CANARY: &str = "c4n4ry";

const PASSWORD: &str = "c4n4ry@1";

const DEADLINE: Duration = Duration::from_mins(1);

const LOUD: [(&str, &str); 1] = [("RUST_LOG", "trace")];

/// A server's URL with a user and a password.
fn url_of(server: &str, user: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:{}@{host}", PASSWORD.replace('@', "%40"))
}

/// Lets a user in by the password alone.
async fn with_user(redis: &RedisServer) {
    let rule = format!(">{PASSWORD}");
    let words = ["ACL", "SETUSER", "shop", "on", &rule, "~*", "+@all"];
    let _: String = redis.run(&words).await;
}

fn assert_silent(text: &str) {
    let line = text.lines().find(|line| line.contains(CANARY));
    assert_eq!(line, None);
}

/// Everything that a worker has said.
fn assert_worker_silent(worker: &Worker) {
    assert_silent(&worker.output());
    assert_silent(&worker.logs());
}

/// The statement that stores the effect of the event `slow` takes a minute.
async fn slow_down(database: &Postgres) {
    for sql in [
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON effects FOR EACH ROW
         WHEN (NEW.event_id = 'slow') EXECUTE FUNCTION slow()",
    ] {
        database.change(sql).await;
    }
}

/// Ends the session of a handler that is in the middle of its work.
async fn lose_a_unit(site: &Site<Postgres>, server: &PostgresServer) {
    site.publish([WorkRequested::taking(800)]).await;
    let idle = async || {
        let idle = site.database.texts(<Postgres>::IDLE_IN_TRANSACTION);
        !idle.await.is_empty()
    };
    eventually(DEADLINE, idle).await;
    server
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE state LIKE 'idle in transaction%'",
        )
        .await;
}

/// Everything happens to it that can: failures, panics, unreadable entries, statements that are
/// cut, sessions that end, servers that go away, another worker's death.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_logs_everything_tells_no_password() {
    // The server tells its clients what it logs, of which sqlx makes lines of level TRACE.
    let talkative = ["client_min_messages=log", "log_statement=all"];
    let mut server = PostgresServer::start_with(&talkative).await;
    let database = server.create_database().await;
    let mut site = Site::on(Postgres::of(&database).await).await;
    with_user(&site.redis).await;
    let config = WorkerConfig {
        redis: url_of(&site.redis.url(), "shop"),
        inbox: InboxAt::Postgres(url_of(&database, "postgres")),
        handler_timeout: Duration::from_secs(1),
        ..site.worker()
    };
    slow_down(&site.database).await;
    let slow = Envelope::new(&WorkRequested::taking(0)).unwrap();
    let slow = site.publish_envelopes(&[slow.with_event_id("slow")]).await;
    let mut killed = Worker::start_with(&config, &LOUD);
    killed.logs_say("work begins").await;
    killed.kill();
    let mut worker = Worker::start_with(&config, &LOUD);
    let ends = [End::Done, End::FailOnce, End::Refuse, End::Panic];
    site.publish(ends.map(WorkRequested::ending)).await;
    let _: String = site.redis.run(&["XADD", "work", "*", "data", "{"]).await;
    worker.logs_say("the work panicked").await;
    lose_a_unit(&site, &server).await;
    worker.logs_say("a unit of work lost its transaction").await;

    server.kill();
    worker.logs_say("failed; trying again").await;
    server.start_again().await;
    site.redis.kill();
    worker.logs_say("reading the stream").await;
    site.redis.start_again().await;
    // Users of an access list that is not saved are gone with the server.
    with_user(&site.redis).await;
    let done = site.publish([WorkRequested::taking(0)]).await.remove(0);
    eventually(DEADLINE, async || {
        let dead = site.rows("dead_letter").await;
        site.rows("processed").await.contains(&done) && dead.contains(&slow[0])
    })
    .await;
    let report = worker.stop().await;

    let logs = worker.logs();
    for part in [
        " TRACE ",
        " DEBUG ",
        "sqlx",
        "eventflow",
        "pg_cancel_backend",
    ] {
        assert!(logs.contains(part), "nothing of {part} in:\n{logs}");
    }
    assert!(
        server
            .log()
            .contains("canceling statement due to user request")
    );
    assert!(report.count("recovered") > 0, "{report:?}");
    assert!(report.count("units_lost") > 0, "{report:?}");
    assert_worker_silent(&killed);
    assert_worker_silent(&worker);
    let messages = site.column("error_message").await.join("\n");
    assert!(messages.contains("timed out after 1s"), "{messages}");
    assert_silent(&messages);
}

/// What a worker says that cannot start is the `Debug` of an error and of all its causes.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_start_tells_no_password() {
    let site = Site::<Postgres>::start().await;
    with_user(&site.redis).await;
    let (redis, database) = (site.redis.url(), site.database.url().to_owned());
    let good_redis = url_of(&redis, "shop");
    let good_database = url_of(&database, "postgres");
    let nowhere = |scheme: &str| format!("{scheme}://shop:{CANARY}@127.0.0.1:1/shop");
    let starts = [
        (
            url_of(&redis, "shop").replace("%401", "-wrong"),
            good_database.clone(),
        ),
        (nowhere("redis").replace("/shop", ""), good_database.clone()),
        (
            good_redis.replace("redis:", "rediss:"),
            good_database.clone(),
        ),
        (
            format!("redis://shop:{CANARY}@127.0.0.1:port"),
            good_database.clone(),
        ),
        (good_redis.clone(), url_of(&database, "nobody")),
        (good_redis.clone(), nowhere("postgres")),
        (
            good_redis.clone(),
            format!("{good_database}?sslmode=verify-full"),
        ),
        (
            good_redis,
            format!("postgres://shop:{CANARY}@127.0.0.1:port/shop"),
        ),
    ];
    let mut workers = starts.map(|(redis, database)| {
        let config = WorkerConfig {
            redis,
            inbox: InboxAt::Postgres(database),
            ..site.worker()
        };
        Worker::start_with(&config, &LOUD)
    });

    for worker in &mut workers {
        let status = worker.exit().await;

        let logs = worker.logs();
        assert!(!status.success(), "{logs}");
        assert!(logs.contains("Error"), "{logs}");
        assert_worker_silent(worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_shows_a_password_when_it_is_printed() {
    let site = Site::<Postgres>::start().await;
    with_user(&site.redis).await;
    let redis = url_of(&site.redis.url(), "shop");
    let database = url_of(site.database.url(), "postgres");
    let builder = RedisStream::builder(&redis).stream("work").group(GROUP);
    assert_silent(&format!("{builder:?} {builder:#?}"));
    let stream = builder.connect().await.unwrap();
    assert_silent(&format!("{stream:?} {stream:#?}"));
    let builder = PgInbox::builder(&database);
    assert_silent(&format!("{builder:?} {builder:#?}"));
    let inbox = builder.connect().await.unwrap();
    assert_silent(&format!("{inbox:?} {inbox:#?}"));
    let pool = PgPool::connect(&database).await.unwrap();
    let builder = PgInbox::with_pool(pool);
    assert_silent(&format!("{builder:?} {builder:#?}"));
    let consumer = Consumer::builder(stream, inbox, router(Script::<Postgres>::new()));
    let consumer = consumer.build().unwrap();
    assert_silent(&format!("{consumer:?} {:?}", consumer.handle()));
    let unit = site.database.inbox().begin().await.unwrap();
    assert_silent(&format!("{unit:?}"));
}
