//! Streams in memory.

use eventflow::stream::{MemoryStream, Sink, Source};

use super::{Fixture, cases::conformance, envelopes, ids};

conformance!(MemoryFixture);

struct MemoryFixture {
    streams: MemoryStream,
}

impl Fixture for MemoryFixture {
    type Stream = MemoryStream;

    async fn start() -> Self {
        Self {
            streams: MemoryStream::new("orders"),
        }
    }

    async fn consumer(&self, streams: &[&str], group: &str, name: &str) -> MemoryStream {
        let stream = streams
            .iter()
            .fold(self.streams.clone(), |all, stream| all.stream(*stream))
            .group(group)
            .consumer(name);
        stream.open().await.unwrap();
        stream
    }

    async fn publisher(&self, stream: &str) -> MemoryStream {
        self.streams.clone().publish_to(stream)
    }

    async fn publish_raw(&self, stream: &str, fields: &[(&[u8], &[u8])]) -> String {
        let fields = fields.iter().copied();
        self.streams
            .clone()
            .publish_to(stream)
            .publish_raw(fields)
            .id
    }

    async fn trim(&self, stream: &str) {
        self.streams.clone().publish_to(stream).trim(0);
    }

    async fn disconnect(&self, stream: &MemoryStream) {
        stream.disconnect();
    }

    async fn wait_until_read_waits(&self) {
        // The read that is joined with this was polled before, and waits.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_every_group_has_acknowledged_is_dropped() {
    let billing = MemoryStream::new("orders").group("billing");
    let shipping = billing.clone().group("shipping");
    billing.open().await.unwrap();
    shipping.open().await.unwrap();
    billing.send(&envelopes(0..4)).await.unwrap();
    let billed = ids(&billing.read(10, None).await.unwrap());
    let shipped = ids(&shipping.read(10, None).await.unwrap());

    billing.acknowledge(&billed).await.unwrap();
    assert_eq!((billing.len(), billing.pending()), (4, 0));
    shipping.acknowledge(&shipped[..2]).await.unwrap();
    assert_eq!((shipping.len(), shipping.pending()), (2, 2));
    shipping.acknowledge(&shipped[3..]).await.unwrap();
    assert_eq!(shipping.len(), 2);
    shipping.acknowledge(&shipped[2..3]).await.unwrap();
    assert!(shipping.is_empty());
}

#[tokio::test]
async fn a_lost_connection_ends_a_read_that_waits() {
    let stream = MemoryStream::new("orders").group("billing");
    stream.open().await.unwrap();
    let reading = stream.read(10, Some(super::DEADLINE));
    let cutting = async {
        tokio::task::yield_now().await;
        stream.disconnect();
    };

    let (read, ()) = futures_util::future::join(reading, cutting).await;

    assert!(read.unwrap_err().is_transient());
    assert!(stream.read(10, None).await.unwrap().is_empty());
}
