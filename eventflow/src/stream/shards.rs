//! Sharded streams: one stream in several keys, the key chosen by the event's aggregate.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Result};

/// A stream in several keys, its *shards*: `orders:{0}`, `orders:{1}` and so on.
///
/// All events of an aggregate are in one shard, in the order in which they were published; shards can
/// be read by different consumers, and kept by different nodes of a Redis Cluster.
///
/// # Which shard
/// The CRC-32 of the aggregate id's 16 bytes, modulo the number of shards. This never changes. It is the
/// CRC-32 of zlib, gzip and PNG, and the bytes are in the order in which the id is written. In Python:
///
/// ```python
/// shard = zlib.crc32(aggregate_id.bytes) % 16
/// key = f"orders:{{{shard}}}"
/// ```
///
/// In Java it is `java.util.zip.CRC32`, in Go `crc32.ChecksumIEEE(id[:])`, in PHP
/// `crc32(hex2bin(str_replace('-', '', $id)))`; in .NET take the bytes by `ToByteArray(bigEndian: true)`.
/// Braces are part of the key: a Redis Cluster places a key by what stands between them.
///
/// # How many
/// A shard is read in order by one consumer, so there can be as many that read in order as there are
/// shards, each with shards of its own, and a cluster can use as many nodes. 16 are enough for most services: take a small multiple
/// of the consumers that you expect at most. Each shard costs a key with its groups and, while it is idle,
/// nothing else; a consumer that reads many takes an equal share of its batch from each, so that its
/// [`batch_size`](crate::consumer::ConsumerBuilder::batch_size) should be at least ten times their number.
/// An aggregate that has most of the events is read no faster for more shards.
///
/// # Another number
/// The number cannot be changed in place. Aggregates would move to other shards while their earlier
/// events wait in the old ones, and consumers would handle the later ones first; and consumers that
/// still have the old number would not read the new shards at all. Move to a stream of another name:
///
/// 1. Let every producer publish to the new stream, `orders.v2` with 32 shards. Its events wait there.
/// 2. Let the consumers go on until every group has read and acknowledged all of the old one:
///    `XINFO GROUPS` shows the group's last id and what is pending, for each shard. What is acknowledged
///    may still wait in the inbox: let that be handled too.
/// 3. Let the consumers read the new stream. Their groups begin at its beginning.
///
/// Where order does not matter, the consumers may read both streams from the first step on.
///
/// # Examples
/// ```
/// use eventflow::{prelude::*, stream::Shards};
///
/// let orders = Shards::new("orders", 16)?;
/// let order_id: Uuid = "7c8f0a6a-7b7c-4c74-9cfb-2e2e2b9b1d33".parse().unwrap();
///
/// assert_eq!(orders.of(order_id), 2);
/// assert_eq!(&*orders.stream(2), "orders:{2}");
/// # Ok::<(), eventflow::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    name: Arc<str>,
    count: u16,
}

impl Shards {
    /// How many shards there can be.
    pub const MAX: u16 = 1024;

    /// The shards of a stream: their number is the same for all who publish to it or read it, for ever.
    ///
    /// # Errors
    /// If the number is 0 or more than [`MAX`](Self::MAX), or if the name has braces: they would be
    /// taken for the shard's.
    pub fn new(name: impl Into<Arc<str>>, count: u16) -> Result<Self> {
        let name = name.into();
        if !(1..=Self::MAX).contains(&count) {
            return Err(Error::configuration(format!(
                "stream `{name}` cannot have {count} shards; give it 1 to {}",
                Self::MAX
            )));
        }
        if name.contains(['{', '}']) {
            return Err(Error::configuration(format!(
                "the sharded stream's name `{name}` has braces; leave them out, each shard gets its own"
            )));
        }
        Ok(Self { name, count })
    }

    /// The stream's name without a shard.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many shards there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The shard of an aggregate, from 0.
    pub fn of(&self, aggregate_id: Uuid) -> u16 {
        let shard = crc32(aggregate_id.as_bytes()) % u32::from(self.count);
        // A remainder of a `u16` is one.
        u16::try_from(shard).unwrap_or_default()
    }

    /// The key of a shard.
    pub fn stream(&self, shard: u16) -> Arc<str> {
        format!("{}:{{{shard}}}", self.name).into()
    }
}

/// CRC-32 as zlib has it (ISO 3309: reflected, polynomial `0x04C11DB7`).
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let lowest_bit = crc & 1;
            crc = (crc >> 1) ^ (0xEDB8_8320 * lowest_bit);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_crc_32_that_everyone_has() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    /// These are kept for ever: streams that are in use depend on them.
    #[test]
    fn an_aggregate_stays_in_its_shard() {
        let orders = Shards::new("orders", 16).unwrap();
        let of = |id: u128| orders.of(Uuid::from_u128(id));

        let shards = [
            of(0),
            of(1),
            of(2),
            of(u128::MAX),
            of(0x0192_f0c1_2b3c_7d4e_8f90_0123_4567_89ab),
        ];

        assert_eq!(shards, [5, 3, 9, 10, 12]);
    }

    #[test]
    fn aggregates_spread_evenly_whatever_makes_their_ids() {
        let random = |_| Uuid::new_v4();
        let in_time = |_| Uuid::now_v7();
        let counted = |number| Uuid::from_u128(number);
        for ids in [
            (0..16_000).map(random).collect::<Vec<_>>(),
            (0..16_000).map(in_time).collect(),
            (0..16_000).map(counted).collect(),
        ] {
            for count in [2, 7, 16] {
                let shards = Shards::new("orders", count).unwrap();
                let mut found = vec![0_u32; usize::from(count)];
                for id in &ids {
                    found[usize::from(shards.of(*id))] += 1;
                }
                let share = 16_000 / u32::from(count);
                let even = share * 8 / 10..=share * 12 / 10;
                assert!(found.iter().all(|n| even.contains(n)), "{found:?}");
            }
        }
    }

    #[test]
    fn numbers_and_names_that_are_none_are_refused() {
        for (name, count) in [("orders", 0), ("orders", 1025), ("or{d}ers", 16)] {
            let error = Shards::new(name, count).unwrap_err();

            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
