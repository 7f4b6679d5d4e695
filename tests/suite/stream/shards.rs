//! Sharded streams on a real server.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use eventflow::{
    Envelope, ErrorKind, RedisStream,
    envelope::wire,
    prelude::*,
    stream::{Entry, EntryId, RedisStreamBuilder, Shards},
};
use eventflow_tests::{eventually, redis::RedisServer};

use super::{
    DEADLINE, Source, envelopes, ids,
    redis::{open, orders},
};

const SHARDS: u16 = 16;

/// The same event of each of so many aggregates, aggregate by aggregate, then the next.
fn interleaved(aggregates: u32, each: u32) -> Vec<Envelope> {
    let mut all = envelopes(0..aggregates * each);
    for (place, envelope) in (0..).zip(&mut all) {
        let aggregate = Uuid::from_u128(u128::from(place % aggregates));
        *envelope = envelope.clone().with_aggregate_id(aggregate);
    }
    all
}

fn shards() -> Shards {
    Shards::new("orders", SHARDS).unwrap()
}

fn sharded(url: String) -> RedisStreamBuilder {
    RedisStream::builder(url)
        .sharded("orders", SHARDS)
        .group("billing")
}

fn envelope(entry: &Entry) -> Envelope {
    wire::read(entry, wire::Limits::default()).unwrap()
}

async fn read_entries(stream: &RedisStream, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        let batch = stream.read(100, Some(DEADLINE)).await.unwrap();
        assert!(!batch.is_empty(), "only {} of {count} came", entries.len());
        stream.acknowledge(&ids(&batch)).await.unwrap();
        entries.extend(batch.entries);
    }
    entries
}

#[tokio::test]
async fn events_of_an_aggregate_keep_their_order_through_the_shards() {
    let server = RedisServer::start().await;
    let stream = open(sharded(server.url())).await;
    let sent = interleaved(100, 10);

    stream.send(&sent[..700]).await.unwrap();
    stream.send(&sent[700..]).await.unwrap();
    let entries = read_entries(&stream, sent.len()).await;

    let by_aggregate = |events: &mut dyn Iterator<Item = Envelope>| {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for event in events {
            let metadata = event.metadata();
            let events = all.entry(metadata.aggregate_id).or_default();
            events.push(metadata.event_id.clone());
        }
        all
    };
    assert_eq!(
        by_aggregate(&mut entries.iter().map(envelope)),
        by_aggregate(&mut sent.into_iter())
    );
    for entry in &entries {
        let shard = shards().of(envelope(entry).metadata().aggregate_id);
        assert_eq!(entry.id.stream, shards().stream(shard));
    }
    let used: BTreeSet<_> = entries.iter().map(|entry| &entry.id.stream).collect();
    assert_eq!(used.len(), usize::from(SHARDS));
}

#[tokio::test]
async fn publishing_answers_the_ids_in_the_order_of_the_events() {
    let server = RedisServer::start().await;
    let stream = open(sharded(server.url())).await;
    let sent = interleaved(50, 6);

    let published = stream.send(&sent).await.unwrap();

    let entries = read_entries(&stream, sent.len()).await;
    let found: BTreeMap<_, _> = entries
        .iter()
        .map(|entry| (envelope(entry).metadata().event_id.clone(), &entry.id))
        .collect();
    let expected: Vec<&EntryId> = sent
        .iter()
        .map(|envelope| found[&envelope.metadata().event_id])
        .collect();
    assert_eq!(published.iter().collect::<Vec<_>>(), expected);
}

#[derive(Debug, Serialize, Deserialize, Event)]
struct Noted {
    text: String,
}

/// Else what is published again would stand behind later events of its aggregate.
#[tokio::test]
async fn a_shard_takes_all_of_what_is_sent_at_once_or_nothing() {
    let server = RedisServer::start().await;
    let stream = open(sharded(server.url())).await;
    let text = "x".repeat(4_000);
    let noted = |n: u32| {
        let envelope = Envelope::new(&Noted { text: text.clone() }).unwrap();
        envelope.with_aggregate_id(Uuid::from_u128(u128::from(n % 20)))
    };
    let sent: Vec<_> = (0..200).map(noted).collect();
    let memory: String = server.run(&["INFO", "memory"]).await;
    let (_, used) = memory.split_once("used_memory:").unwrap();
    let used: u64 = used.lines().next().unwrap().trim().parse().unwrap();
    let limit = (used + 400_000).to_string();
    let _: String = server.run(&["CONFIG", "SET", "maxmemory", &limit]).await;

    let error = stream.send(&sent).await.unwrap_err();
    let mut lengths = Vec::new();
    for shard in 0..SHARDS {
        let key = shards().stream(shard);
        let length: usize = server.run(&["XLEN", &key]).await;
        lengths.push(length);
    }
    let _: String = server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;

    assert!(error.is_transient(), "{error:?}");
    let expected = |shard| {
        let events = sent.iter().map(|event| event.metadata().aggregate_id);
        events.filter(|id| shards().of(*id) == shard).count()
    };
    for (shard, length) in (0..).zip(&lengths) {
        assert!([0, expected(shard)].contains(length), "{lengths:?}");
    }
    let stored: usize = lengths.iter().sum();
    assert!(stored < sent.len(), "{lengths:?}");
    stream.send(&sent).await.unwrap();
    assert_eq!(
        read_entries(&stream, stored + 200).await.len(),
        stored + 200
    );
}

#[tokio::test]
async fn a_reader_of_some_shards_publishes_to_all() {
    let server = RedisServer::start().await;
    let stream = open(sharded(server.url()).shards([3, 5])).await;
    let others =
        open(sharded(server.url()).shards((0..SHARDS).filter(|n| ![3, 5].contains(n)))).await;
    let sent = interleaved(100, 1);
    let is_its_own =
        |envelope: &&Envelope| [3, 5].contains(&shards().of(envelope.metadata().aggregate_id));
    let own = sent.iter().filter(is_its_own).count();

    stream.send(&sent).await.unwrap();

    assert!((1..100).contains(&own));
    let entries = read_entries(&stream, own).await;
    assert!(
        entries
            .iter()
            .map(envelope)
            .all(|event| is_its_own(&&event))
    );
    assert!(stream.read(100, None).await.unwrap().is_empty());
    assert_eq!(read_entries(&others, 100 - own).await.len(), 100 - own);
}

#[tokio::test]
async fn a_sharded_stream_is_one_of_several_to_publish_to() {
    let server = RedisServer::start().await;
    let several = || sharded(server.url()).stream("payments");
    let sent = interleaved(4, 1);

    let unclear = several().connect().await.unwrap();
    let to_shards = several().publish_to("orders").connect().await.unwrap();
    let to_stream = several().publish_to("payments").connect().await.unwrap();

    let error = unclear.send(&sent).await.unwrap_err();
    assert!(error.to_string().contains("`publish_to`"), "{error}");
    for id in to_shards.send(&sent).await.unwrap() {
        assert!(id.stream.starts_with("orders:{"), "{id:?}");
    }
    for id in to_stream.send(&sent).await.unwrap() {
        assert_eq!(&*id.stream, "payments");
    }
}

#[tokio::test]
async fn shards_that_are_not_there_are_refused() {
    let url = || "redis://localhost".to_owned();
    for (builder, says) in [
        (sharded(url()).shards([SHARDS]), "no shard 16"),
        (sharded(url()).shards([]), "at least one"),
        (orders(url()).shards([0]), "`sharded`"),
        (orders(url()).sharded("payments", 0), "`payments`"),
        (orders(url()).sharded("pay{ments}", 4), "braces"),
    ] {
        let error = builder.connect().await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// Other producers choose the shard as the documentation tells them.
#[test]
fn python_chooses_the_same_shards() {
    let script = "import sys, uuid, zlib\n\
        for id in sys.argv[1:]:\n    \
            shard = zlib.crc32(uuid.UUID(id).bytes) % 16\n    \
            print(f'orders:{{{shard}}}')";
    let ids: Vec<Uuid> = (0..200)
        .map(|_| Uuid::now_v7())
        .chain((0..200).map(|_| Uuid::new_v4()))
        .collect();

    let output = Command::new("python3")
        .args(["-c", script])
        .args(ids.iter().map(Uuid::to_string))
        .output()
        .expect("python3 is needed; on Debian `apt-get install python3`");

    let chosen = String::from_utf8(output.stdout).unwrap();
    let ours: Vec<_> = ids
        .iter()
        .map(|id| shards().stream(shards().of(*id)))
        .collect();
    assert_eq!(
        chosen.lines().collect::<Vec<_>>(),
        ours.iter().map(|key| &**key).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_shard_holds_the_entries_that_the_python_package_writes_and_reads() {
    let server = RedisServer::start().await;
    let stream = open(sharded(server.url())).await;
    let [ours] = <[_; 1]>::try_from(interleaved(1, 1)).unwrap();
    let key = shards().stream(shards().of(Uuid::nil()));
    let nil = Uuid::nil().to_string();
    let time = "2026-01-01T00:00:00+00:00";
    let flattened = [
        "event_id",
        "e-1",
        "event_type",
        "Counted",
        "aggregate_id",
        &nil,
        "occurred_on",
        time,
        "payload",
        r#"{"number":7}"#,
    ];
    let data = format!(
        r#"{{"event_id":"e-2","event_type":"Counted","aggregate_id":"{nil}","occurred_on":"{time}","payload":{{"number":8}}}}"#
    );

    let _: String = server
        .run(&[&["XADD", &key, "*"], &flattened[..]].concat())
        .await;
    let _: String = server.run(&["XADD", &key, "*", "data", &data]).await;
    stream.send(std::slice::from_ref(&ours)).await.unwrap();

    let entries = read_entries(&stream, 3).await;
    let payloads: Vec<_> = entries
        .iter()
        .map(|entry| envelope(entry).payload().as_str().to_owned())
        .collect();
    assert_eq!(
        payloads,
        [r#"{"number":7}"#, r#"{"number":8}"#, r#"{"number":0}"#]
    );
    assert_eq!(
        entries[2].fields,
        wire::write(&ours, wire::Limits::default()).unwrap()
    );
}

/// One node that has all slots: it lets commands of several slots apart, as every node does.
async fn cluster() -> RedisServer {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let mut words = vec!["CLUSTER", "ADDSLOTS"];
    words.extend(slots.iter().map(String::as_str));
    let _: String = server.run(&words).await;
    eventually(DEADLINE, async || {
        let info: String = server.run(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok")
    })
    .await;
    server
}

#[tokio::test]
async fn in_a_cluster_a_reader_has_one_shard_of_each_stream() {
    let server = cluster().await;
    let builder = || {
        sharded(server.url())
            .sharded("payments", SHARDS)
            .publish_to("orders")
    };
    let of_all = open(builder()).await;
    let of_one = open(builder().shards([3]).trim_acknowledged()).await;
    let sent = interleaved(100, 1);
    let in_shard_3 = sent
        .iter()
        .filter(|event| shards().of(event.metadata().aggregate_id) == 3)
        .count();

    of_one.send(&sent).await.unwrap();
    let entries = read_entries(&of_one, in_shard_3).await;
    of_one.maintain().await.unwrap();
    let error = of_all.read(100, None).await.unwrap_err();

    assert!(
        entries
            .iter()
            .all(|entry| &*entry.id.stream == "orders:{3}")
    );
    assert!(!error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("`shards`"), "{error}");
}
