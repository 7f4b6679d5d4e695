//! No password reaches a log, an error, a panic or a `Debug`, at any level and whatever happens.

use eventflow::{RedisStream, prelude::*};
use eventflow_tests::{
    postgres::PostgresServer,
    redis::RedisServer,
    shop::{Database, GROUP, Postgres, Script, router},
    site::Site,
    work::{End, WorkRequested},
    worker::{InboxAt, Worker, WorkerConfig},
};
use sqlx::PgPool;

/// Part of each password here, as it is and percent-encoded.
const CANARY: &str = "c4n4ry";

const PASSWORD: &str = "c4n4ry@1";

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

/// Everything happens to it that can: failures, panics, unreadable entries, servers that go away.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_logs_everything_tells_no_password() {
    let mut server = PostgresServer::start().await;
    let database = server.create_database().await;
    let mut site = Site::on(Postgres::of(&database).await).await;
    with_user(&site.redis).await;
    let config = WorkerConfig {
        redis: url_of(&site.redis.url(), "shop"),
        inbox: InboxAt::Postgres(url_of(&database, "postgres")),
        ..site.worker()
    };
    let mut worker = Worker::start_with(&config, &LOUD);
    let ends = [End::Done, End::FailOnce, End::Refuse, End::Panic];
    site.publish(ends.map(WorkRequested::ending)).await;
    let _: String = site.redis.run(&["XADD", "work", "*", "data", "{"]).await;
    worker.logs_say("the work panicked").await;

    server.kill();
    worker.logs_say("failed; trying again").await;
    server.start_again().await;
    site.redis.kill();
    worker.logs_say("reading the stream").await;
    site.redis.start_again().await;
    // Users of an access list that is not saved are gone with the server.
    with_user(&site.redis).await;
    let done = site.publish([WorkRequested::taking(0)]).await.remove(0);
    eventflow_tests::eventually(std::time::Duration::from_mins(1), async || {
        site.rows("processed").await.contains(&done)
    })
    .await;
    let report = worker.stop().await;

    let logs = worker.logs();
    for target in [" DEBUG ", "sqlx", "eventflow"] {
        assert!(logs.contains(target), "nothing of {target} in:\n{logs}");
    }
    assert_silent(&logs);
    assert_silent(&format!("{report:?}"));
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
        assert_silent(&logs);
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
