//! Streams: where events come from and where they are published.
//!
//! [`Source`] and [`Sink`] have two implementations with one behaviour: [`RedisStream`] and
//! [`MemoryStream`]. Reading envelopes from entries is [`wire`](crate::envelope::wire)'s part.

mod memory;
#[cfg(feature = "redis")]
mod redis;
mod shards;

use std::{sync::Arc, time::Duration};

use crate::{
    envelope::Envelope,
    error::{Error, ErrorKind},
    event::Event,
};

pub use self::memory::MemoryStream;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisStream, RedisStreamBuilder};
pub use self::shards::Shards;

/// Names an entry: the stream and the id in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// The stream.
    pub stream: Arc<str>,
    /// The id that the stream gave, as `1700000000000-0`.
    pub id: String,
}

/// An entry as it stands in a stream: fields of bytes, whatever they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Its fields, in order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// How many bytes its fields have.
    pub(crate) fn bytes(&self) -> usize {
        let fields = self.fields.iter();
        fields.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// What one read or claim gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Entries that are now this consumer's, until acknowledged.
    pub entries: Vec<Entry>,
    /// Entries that were delivered and then trimmed from the stream: lost, to be acknowledged and
    /// counted.
    pub trimmed: Vec<EntryId>,
    /// Whether the entries may have been delivered before: they were left pending, by this consumer
    /// or another.
    pub redelivered: bool,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.trimmed.is_empty()
    }
}

/// A stream that a group of consumers reads: each entry goes to one of them and stays pending
/// until it is acknowledged.
///
/// One consumer reads a source at a time; clones of a source are the same consumer of the group.
pub trait Source: Send + Sync + 'static {
    /// The group's name; also the inbox's `consumer` unless set.
    fn group(&self) -> &str;

    /// The names of the streams that it reads. Default: one with the group's name.
    ///
    /// A consumer in order is the only one of its group that reads them.
    fn streams(&self) -> Vec<Arc<str>> {
        vec![Arc::from(self.group())]
    }

    /// Prepares the group on every stream, from the stream's beginning, where the next
    /// [`claim`](Self::claim) begins as well.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses the credentials, or a key holds no stream.
    fn open(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads up to `count` entries, waiting up to `block` for the first; with no `block`, not at
    /// all.
    ///
    /// Several streams share `count`. The first reads, and the first after an error, give what this
    /// consumer had left pending, until none is left.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses. The next call connects anew; nothing is lost.
    ///
    /// # Cancel safety
    /// Not to be dropped: entries that the server has assigned would wait for the next error or
    /// start. Use [`interrupt`](Self::interrupt).
    fn read(
        &self,
        count: usize,
        block: Option<Duration>,
    ) -> impl Future<Output = Result<Batch, Error>> + Send;

    /// Makes a waiting [`read`](Self::read) return early, as far as that can be done; if none
    /// waits, the next one that would.
    fn interrupt(&self) -> impl Future<Output = ()> + Send;

    /// Acknowledges entries: the group is done with them.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses. Repeating it does no harm.
    fn acknowledge(&self, ids: &[EntryId]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes over up to `count` entries that a consumer of the group has left pending for
    /// `min_idle`.
    ///
    /// Also this consumer's own, whose acknowledgement may have been lost.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses.
    fn claim(
        &self,
        min_idle: Duration,
        count: usize,
    ) -> impl Future<Output = Result<Batch, Error>> + Send;

    /// Does what the stream needs now and then beside reading; by default nothing.
    ///
    /// A consumer calls it about once a minute. Any number of nodes may: what one has done, the others
    /// find done.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses. What was not done is done by a later call.
    ///
    /// # Cancel safety
    /// May be dropped: each step is done or not.
    fn maintain(&self) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whether other consumers of the group have entries pending. Default: they may, so that a consumer
    /// in order claims what there is after each read.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses.
    fn others_have_pending(&self) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Ok(true))
    }
}

/// A stream that events are published to.
pub trait Sink: Send + Sync {
    /// Publishes envelopes in order; answers the ids of their entries.
    ///
    /// # Errors
    /// If an envelope breaks a limit of the wire, or the server cannot be reached or refuses. Some
    /// may have been published then: of each aggregate the first ones, and none after one that was not.
    /// Publish the same envelopes again, duplicates are dropped by their event ids.
    ///
    /// A [`Relay`](crate::outbox::Relay) makes a dead letter of an event, sent alone, only for an error that
    /// says it is to blame: of kind [`Encode`](ErrorKind::Encode) or [`Refused`](ErrorKind::Refused), and
    /// not transient. After any other error it sends the same events again, for as long as it takes; events of
    /// other aggregates go on. An error that is [disconnected](Error::disconnected) may be an event's fault:
    /// three times within no less than 5 s, each time while the next event is taken, make a dead letter too.
    ///
    /// # Cancel safety
    /// It must end: a relay drops it after 30 s and sends the same events again.
    fn send(
        &self,
        envelopes: &[Envelope],
    ) -> impl Future<Output = Result<Vec<EntryId>, Error>> + Send;

    /// Publishes one event that has just happened; answers the id of its entry.
    ///
    /// # Errors
    /// If the event cannot be written as a JSON object, and as [`send`](Self::send).
    fn publish<E: Event + Sync>(
        &self,
        event: &E,
    ) -> impl Future<Output = Result<EntryId, Error>> + Send {
        async move {
            let envelope = Envelope::new(event).map_err(|error| {
                Error::new(
                    ErrorKind::Encode,
                    format!("event `{}` cannot be published", E::TYPE),
                )
                .with_source(error)
            })?;
            let ids = self.send(std::slice::from_ref(&envelope)).await?;
            ids.into_iter()
                .next()
                .ok_or_else(|| Error::new(ErrorKind::Stream, "the stream gave no id for the entry"))
        }
    }
}
