//! Streams: one conformance suite on every implementation, and what only a server can do.

mod cases;
mod maintenance;
mod memory;
mod redis;
mod shards;

use std::time::Duration;

use eventflow::{
    Envelope, Event,
    prelude::*,
    stream::{Batch, EntryId, Source},
};

/// No read of a test waits as long as this.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server of streams, as the cases need it.
trait Fixture: Sized {
    type Stream: Source + Sink + Clone;

    async fn start() -> Self;

    /// This consumer of this group, just started; publishes to the first stream.
    async fn consumer(&self, streams: &[&str], group: &str, name: &str) -> Self::Stream;

    /// A stream that has no group.
    async fn publisher(&self, stream: &str) -> Self::Stream;

    async fn publish_raw(&self, stream: &str, fields: &[(&[u8], &[u8])]) -> String;

    /// Drops all entries of the stream.
    async fn trim(&self, stream: &str);

    /// Cuts the consumer's connections.
    async fn disconnect(&self, stream: &Self::Stream);

    /// Returns when a read waits at the server.
    async fn wait_until_read_waits(&self);
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct Counted {
    number: u32,
}

fn envelopes(numbers: std::ops::Range<u32>) -> Vec<Envelope> {
    numbers
        .map(|number| Envelope::new(&Counted { number }).unwrap())
        .collect()
}

fn ids(batch: &Batch) -> Vec<EntryId> {
    batch.entries.iter().map(|entry| entry.id.clone()).collect()
}

/// Reads until `count` entries have come.
async fn read_all(stream: &impl Source, count: usize) -> Vec<EntryId> {
    let mut read = Vec::new();
    while read.len() < count {
        let batch = stream.read(100, Some(DEADLINE)).await.unwrap();
        assert!(!batch.is_empty(), "only {} of {count} came", read.len());
        read.extend(ids(&batch));
    }
    read
}
