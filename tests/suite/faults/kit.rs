//! The kit with which the other tests make faults does what it says.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    proxy::{Direction, Proxy},
    redis::RedisServer,
    shop::Sqlite,
    site::Site,
    work::WorkRequested,
    worker::{Signal, Worker},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longer than any answer on this machine takes, shorter than anyone wants to wait.
const A_WHILE: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

/// A server that answers every byte with itself, and a proxy in front of it.
async fn echo() -> Proxy {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    Proxy::start(port).await
}

async fn connected(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    assert_eq!(answer(&mut stream, b"hello").await.unwrap(), b"hello");
    stream
}

/// Sends bytes and reads as many.
async fn answer(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer));
    read.await.expect("there is an answer or an error")?;
    Ok(answer)
}

#[tokio::test]
async fn a_connection_is_cut_before_a_text() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;
    proxy.cut_before(Direction::ToClient, "b0");
    assert_eq!(answer(&mut stream, b"a0").await.unwrap(), b"a0");
    assert!(answer(&mut stream, b"a1 b0").await.is_err());
}

#[tokio::test]
async fn a_cut_connection_is_reset_and_a_new_one_works() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;

    proxy.cut();

    let error = answer(&mut stream, b"lost").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    connected(&proxy).await;
}

#[tokio::test]
async fn a_port_that_refuses_takes_connections_again() {
    let mut proxy = echo().await;
    let mut before = connected(&proxy).await;

    proxy.refuse().await;

    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(answer(&mut before, b"open").await.unwrap(), b"open");
    proxy.accept().await;
    connected(&proxy).await;
}

#[tokio::test]
async fn what_a_stalled_network_swallows_arrives_when_it_flows() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;

    proxy.stall();

    stream.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    let read = tokio::time::timeout(A_WHILE, stream.read(&mut late)).await;
    assert!(read.is_err(), "a byte came through");
    proxy.flow();
    stream.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn a_half_closed_connection_ends_one_way_only() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;

    proxy.half_close(Direction::ToClient);

    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    stream.write_all(b"still taken").await.unwrap();
    connected(&proxy).await;
}

#[tokio::test]
async fn a_delay_holds_each_way() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;

    proxy.delay(Duration::from_millis(50));

    let sent = Instant::now();
    answer(&mut stream, b"slow").await.unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes_once() {
    let proxy = echo().await;
    let mut stream = connected(&proxy).await;

    proxy.cut_after(Direction::ToClient, 6);

    assert_eq!(answer(&mut stream, b"four").await.unwrap(), b"four");
    stream.write_all(b"more").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert_eq!(
        ended.unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(rest, b"mo");
    connected(&proxy).await;
}

#[tokio::test]
async fn a_redirected_port_leaves_open_connections_where_they_are() {
    let proxy = echo().await;
    let mut before = connected(&proxy).await;
    let other = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();

    proxy.redirect(other.local_addr().unwrap().port());

    assert_eq!(answer(&mut before, b"here").await.unwrap(), b"here");
    let mut after = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    let (mut there, _) = other.accept().await.unwrap();
    there.write_all(b"there").await.unwrap();
    let mut said = [0; 5];
    after.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"there");
}

#[tokio::test]
async fn a_paused_redis_answers_when_it_is_resumed() {
    let mut redis = RedisServer::start().await;

    redis.pause();

    let answer = tokio::time::timeout(A_WHILE, redis.run::<String>(&["PING"])).await;
    assert!(answer.is_err(), "{answer:?}");
    redis.resume();
    assert_eq!(redis.run::<String>(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn a_paused_postgres_stalls_connections_that_are_open() {
    let mut postgres = PostgresServer::start_with(&["max_connections=7"]).await;
    let mut open = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    let mut most = async || {
        let sql = "SELECT current_setting('max_connections')";
        let most = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut open);
        tokio::time::timeout(A_WHILE, most).await.ok()
    };
    assert_eq!(most().await.unwrap().unwrap(), "7");

    postgres.pause();

    assert!(most().await.is_none());
    postgres.resume();
    postgres.run("SELECT 1").await;
}

#[tokio::test]
async fn a_restarted_postgres_has_closed_its_connections_and_kept_its_data() {
    let mut postgres = PostgresServer::start().await;
    let mut open = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    postgres.run("CREATE TABLE kept (name TEXT)").await;

    postgres.restart().await;

    assert!(open.ping().await.is_err());
    postgres.run("INSERT INTO kept VALUES ('once')").await;
    postgres.kill();
    postgres.start_again().await;
    postgres.run("DROP TABLE kept").await;
}

#[tokio::test]
async fn a_postgres_that_failed_over_only_reads_and_the_other_has_its_data() {
    let mut old = PostgresServer::start().await;
    old.run("CREATE TABLE kept (name TEXT)").await;

    let new = old.fail_over().await;

    new.run("INSERT INTO kept VALUES ('new')").await;
    let mut standby = PgConnection::connect(&old.url("postgres")).await.unwrap();
    let refused = standby.execute("INSERT INTO kept VALUES ('old')").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    assert!(old.log().contains("read-only transaction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_works_pauses_and_reports() {
    let site = Site::<Sqlite>::start().await;
    let mut worker = Worker::start(&site.worker());
    let first = site.publish([WorkRequested::taking(0)]).await;
    site.await_rows("processed", &first).await;

    worker.signal(Signal::STOP);
    eventually(DEADLINE, async || worker.is_paused()).await;
    let second = site.publish([WorkRequested::taking(0)]).await;
    assert_eq!(site.effects().await, first);
    worker.signal(Signal::CONT);
    eventually(DEADLINE, async || site.effects().await.len() == 2).await;

    let report = worker.stop().await;
    assert_eq!(report.count("processed"), 2, "{report:?}");
    let ids = site.rows("processed").await;
    assert_eq!(ids, [first, second].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_and_aborts_at_its_fail_points() {
    let site = Site::<Sqlite>::start().await;
    let stalls = Worker::start_to_fail(&site.worker(), "before_settle=stall");
    site.publish([WorkRequested::taking(0)]).await;
    stalls
        .logs_say(r#"fail point point="before_settle" action=Stall"#)
        .await;
    drop(stalls);

    let mut aborts = Worker::start_to_fail(&site.worker(), "before_settle=abort");

    let status = aborts.exit().await;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::ABORT.as_raw())
    );
    assert!(site.effects().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_refuses_fail_points_that_are_not_there() {
    let site = Site::<Sqlite>::start().await;

    let mut worker = Worker::start_to_fail(&site.worker(), "after_lunch=abort");
    site.publish([WorkRequested::taking(0)]).await;

    let status = worker.exit().await;
    assert!(!status.success());
    let logs = worker.logs();
    assert!(
        logs.contains("EVENTFLOW_FAIL: there is no point `after_lunch`"),
        "{logs}"
    );
}
