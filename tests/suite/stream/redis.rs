//! Redis Streams on a real server.

use std::{error::Error as StdError, fmt::Write as _, time::Duration};

use eventflow::{
    Error, ErrorKind,
    stream::{RedisStream, RedisStreamBuilder, Sink, Source},
};
use eventflow_tests::redis::RedisServer;

use super::{DEADLINE, Fixture, cases::conformance, envelopes, ids, read_all};

const CANARY: &str = "canary-6f1d";

conformance!(RedisFixture);

struct RedisFixture {
    server: RedisServer,
}

impl Fixture for RedisFixture {
    type Stream = RedisStream;

    async fn start() -> Self {
        Self {
            server: RedisServer::start().await,
        }
    }

    async fn consumer(&self, streams: &[&str], group: &str, name: &str) -> RedisStream {
        let mut builder = RedisStream::builder(self.server.url())
            .group(group)
            .consumer(name)
            .publish_to(streams[0]);
        for stream in streams {
            builder = builder.stream(*stream);
        }
        open(builder).await
    }

    async fn publisher(&self, stream: &str) -> RedisStream {
        let builder = RedisStream::builder(self.server.url()).stream(stream);
        builder.connect().await.unwrap()
    }

    async fn publish_raw(&self, stream: &str, fields: &[(&[u8], &[u8])]) -> String {
        deadpool_redis::redis::cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg(fields)
            .query_async(&mut self.server.connection().await)
            .await
            .unwrap()
    }

    async fn trim(&self, stream: &str) {
        let _: i64 = self.server.run(&["XTRIM", stream, "MAXLEN", "0"]).await;
    }

    async fn disconnect(&self, _stream: &RedisStream) {
        let _: i64 = self.server.run(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }

    async fn wait_until_read_waits(&self) {
        wait_until_read_waits(&self.server).await;
    }
}

pub(super) async fn wait_until_read_waits(server: &RedisServer) {
    loop {
        let clients: String = server.run(&["INFO", "clients"]).await;
        if clients.contains("blocked_clients:1") {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn open(builder: RedisStreamBuilder) -> RedisStream {
    let stream = builder.connect().await.unwrap();
    stream.open().await.unwrap();
    stream
}

pub(super) fn orders(url: String) -> RedisStreamBuilder {
    RedisStream::builder(url).stream("orders").group("billing")
}

/// Everything that an error says, in any form.
fn text(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause: Option<&dyn StdError> = error.source();
    while let Some(error) = cause {
        write!(text, " {error} {error:?}").unwrap();
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_wait_longer_than_the_drivers_default_timeout_is_no_error() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;

    let batch = stream.read(10, Some(Duration::from_secs(2))).await.unwrap();

    assert!(batch.is_empty());
    let published = stream.send(&envelopes(0..1)).await.unwrap();
    assert_eq!(ids(&stream.read(10, None).await.unwrap()), published);
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    tokio::select! {
        _ = stream.read(10, Some(DEADLINE)) => panic!("there is nothing to read"),
        () = wait_until_read_waits(&server) => {}
    }
    let published = stream.send(&envelopes(0..1)).await.unwrap();

    assert_eq!(read_all(&stream, 1).await, published);
}

#[tokio::test]
async fn a_group_that_vanished_is_created_again() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    assert!(stream.read(10, None).await.unwrap().is_empty());
    let _: String = server.run(&["FLUSHALL"]).await;

    let claimed = stream.claim(Duration::ZERO, 10).await.unwrap();
    let published = stream.send(&envelopes(0..2)).await.unwrap();

    assert!(claimed.is_empty());
    assert_eq!(read_all(&stream, 2).await, published);
    stream.acknowledge(&published).await.unwrap();
}

#[tokio::test]
async fn a_group_that_vanishes_under_a_waiting_read_is_created_again() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    let reading = read_all(&stream, 1);
    let flushing = async {
        wait_until_read_waits(&server).await;
        let _: String = server.run(&["FLUSHALL"]).await;
        stream.send(&envelopes(0..1)).await.unwrap()
    };

    let both = futures_util::future::join(reading, flushing);
    let (read, published) = tokio::time::timeout(DEADLINE, both).await.unwrap();

    assert_eq!(read, published);
}

#[tokio::test]
async fn a_server_that_restarts_is_read_on() {
    let mut server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    let published = stream.send(&envelopes(0..3)).await.unwrap();
    assert_eq!(stream.read(1, None).await.unwrap().entries.len(), 1);
    server.kill();

    let read = stream.read(10, Some(DEADLINE)).await.unwrap_err();
    let acknowledged = stream.acknowledge(&published).await.unwrap_err();
    let sent = stream.send(&envelopes(0..1)).await.unwrap_err();

    for error in [read, acknowledged, sent] {
        assert_eq!(error.kind(), ErrorKind::Stream);
        assert!(error.is_transient(), "{error:?}");
    }
    server.start_again().await;
    assert_eq!(read_all(&stream, 3).await, published);
    stream.acknowledge(&published).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_a_transient_error() {
    let mut server = RedisServer::start().await;
    server.kill();

    let error = orders(server.url()).connect().await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    let address = format!("127.0.0.1:{}", server.port());
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_a_permanent_error_that_does_not_tell_it() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    for user in ["", "someone"] {
        let url = format!("redis://{user}:{CANARY}@127.0.0.1:{}", server.port());
        let builder = orders(url);
        assert!(!format!("{builder:?}").contains(CANARY));

        let error = builder.connect().await.unwrap_err();

        assert!(!error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("user or password"), "{error}");
        assert!(!text(&error).contains(CANARY), "{}", text(&error));
    }
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_not_told() {
    for url in [
        format!("http://user:{CANARY}@localhost"),
        format!("redis://user:{CANARY}@localhost:port/zero"),
        format!("user:{CANARY}@localhost"),
    ] {
        let error = orders(url).connect().await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!text(&error).contains(CANARY), "{}", text(&error));
    }
}

#[tokio::test]
async fn user_password_and_database_of_the_url_are_used() {
    let server = RedisServer::start().await;
    let rule = format!(">{CANARY}");
    let _: String = server
        .run(&["ACL", "SETUSER", "shop", "on", &rule, "~*", "+@all"])
        .await;
    let _: String = server.run(&["ACL", "SETUSER", "default", "off"]).await;
    let url = format!("redis://shop:{CANARY}@127.0.0.1:{}", server.port());
    let stream = open(orders(format!("{url}/3"))).await;
    assert!(!format!("{stream:?}").contains(CANARY));

    let published = stream.send(&envelopes(0..2)).await.unwrap();

    assert_eq!(read_all(&stream, 2).await, published);
    let elsewhere = open(orders(format!("{url}/4"))).await;
    assert!(elsewhere.read(10, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_permission_is_a_permanent_error_that_says_so() {
    let server = RedisServer::start().await;
    let _: String = server
        .run(&[
            "ACL",
            "SETUSER",
            "default",
            "-xadd",
            "-xgroup",
            "-client|id",
        ])
        .await;
    let stream = orders(server.url()).connect().await.unwrap();

    let opened = stream.open().await.unwrap_err();
    let sent = stream.send(&envelopes(0..1)).await.unwrap_err();

    for error in [opened, sent] {
        assert!(!error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("permission"), "{error}");
        assert!(error.to_string().contains("`orders`"), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_is_no_stream_is_a_permanent_error_that_names_it() {
    let server = RedisServer::start().await;
    let _: String = server.run(&["SET", "orders", "7"]).await;
    let stream = orders(server.url()).connect().await.unwrap();

    let opened = stream.open().await.unwrap_err();
    let sent = stream.send(&envelopes(0..1)).await.unwrap_err();

    for error in [opened, sent] {
        assert!(!error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("`orders`"), "{error}");
        assert!(error.to_string().contains("other than a stream"), "{error}");
    }
}

#[tokio::test]
async fn a_full_server_is_a_transient_error() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    let _: String = server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let error = stream.send(&envelopes(0..1)).await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_demoted_server_is_a_transient_error_and_used_again_later() {
    let server = RedisServer::start().await;
    let stream = open(orders(server.url())).await;
    let _: String = server.run(&["REPLICAOF", "127.0.0.1", "1"]).await;

    let error = stream.send(&envelopes(0..1)).await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    let _: String = server.run(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(stream.send(&envelopes(0..1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn tls_trusts_the_given_authority_and_no_other() {
    let server = RedisServer::start_with_tls().await;
    let url = format!("rediss://localhost:{}", server.port());
    let trusting = orders(url.clone()).root_certificate(server.root_certificate());

    let stream = open(trusting).await;
    let published = stream.send(&envelopes(0..2)).await.unwrap();
    let distrusting = orders(url).connect().await.unwrap_err();

    assert_eq!(read_all(&stream, 2).await, published);
    assert!(!distrusting.is_transient(), "{distrusting:?}");
    assert!(distrusting.to_string().contains("certificate"));
}

#[tokio::test]
async fn a_certificate_that_is_none_is_refused() {
    let begun = "-----BEGIN CERTIFICATE-----\n";
    for (url, pem) in [
        ("rediss://localhost", "no PEM"),
        ("rediss://localhost", begun),
        ("redis://localhost", begun),
    ] {
        let builder = orders(url.to_owned()).root_certificate(pem);

        let error = builder.connect().await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn names_that_no_server_takes_are_refused() {
    for builder in [
        RedisStream::builder("redis://localhost"),
        RedisStream::builder("redis://localhost").stream(""),
        orders("redis://localhost".to_owned()).group("bill\ning"),
        orders("redis://localhost".to_owned()).consumer("a".repeat(256)),
    ] {
        let error = builder.connect().await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
}

#[tokio::test]
async fn consumers_have_names_of_their_own() {
    let server = RedisServer::start().await;
    let first = orders(server.url()).connect().await.unwrap();
    let second = orders(server.url())
        .consumer_prefix("shop")
        .connect()
        .await
        .unwrap();

    let (first, second) = (first.consumer().unwrap(), second.consumer().unwrap());

    assert!(first.starts_with("eventflow-"), "{first}");
    assert!(second.starts_with("shop-"), "{second}");
    let unique = |name: &str| name.rsplit('-').next().unwrap().to_owned();
    assert_ne!(unique(first), unique(second));
    assert_eq!(unique(first).len(), 8);
}

#[tokio::test]
async fn with_several_streams_publishing_needs_one_named() {
    let server = RedisServer::start().await;
    let builder = orders(server.url()).stream("payments");
    let stream = builder.connect().await.unwrap();

    let error = stream.send(&envelopes(0..1)).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("`publish_to`"), "{error}");
}
