//! Which keys are read, and to which an event is published.

use std::sync::Arc;

use crate::{
    envelope::Envelope,
    error::{Error, Result},
    stream::Shards,
};

/// What a user has named.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Each with the number of its shards, if it has any.
    named: Vec<(Arc<str>, Option<u16>)>,
    pub(super) read_shards: Option<Vec<u16>>,
    pub(super) publish_to: Option<Arc<str>>,
}

/// Where events are published.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Stream(Arc<str>),
    Shards(Shards),
}

impl Streams {
    pub(super) fn add(&mut self, name: Arc<str>, shards: Option<u16>) {
        self.named.push((name, shards));
    }

    /// The keys to read, and where to publish if that is clear.
    pub(super) fn resolve(self) -> Result<(Arc<[Arc<str>]>, Option<Target>)> {
        if self.named.is_empty() {
            return Err(Error::configuration(
                "no stream is named; name at least one with `stream` or `sharded`",
            ));
        }
        let read_shards = self.read_shards.as_deref();
        let targets = self
            .named
            .into_iter()
            .map(|(name, shards)| match shards {
                Some(count) => Shards::new(name, count).map(Target::Shards),
                None => Ok(Target::Stream(name)),
            })
            .collect::<Result<Vec<_>>>()?;
        check_shards(&targets, read_shards)?;
        let mut keys = Vec::new();
        for key in targets.iter().flat_map(|target| target.keys(read_shards)) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let target = match (self.publish_to, targets.as_slice()) {
            (Some(name), _) => {
                let named = targets.into_iter().find(|target| *target.name() == name);
                Some(named.unwrap_or(Target::Stream(name)))
            }
            (None, [target]) => Some(target.clone()),
            (None, _) => None,
        };
        Ok((keys.into(), target))
    }
}

impl Target {
    /// The stream's name; of a sharded one, without a shard.
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            Self::Stream(name) => name,
            Self::Shards(shards) => shards.name(),
        }
    }

    /// The key that an event belongs to.
    pub(super) fn key_of(&self, envelope: &Envelope) -> Arc<str> {
        match self {
            Self::Stream(name) => Arc::clone(name),
            Self::Shards(shards) => shards.stream(shards.of(envelope.metadata().aggregate_id)),
        }
    }

    fn keys(&self, read_shards: Option<&[u16]>) -> Vec<Arc<str>> {
        match (self, read_shards) {
            (Self::Stream(name), _) => vec![Arc::clone(name)],
            (Self::Shards(shards), Some(read)) => {
                read.iter().map(|shard| shards.stream(*shard)).collect()
            }
            (Self::Shards(shards), None) => (0..shards.count())
                .map(|shard| shards.stream(shard))
                .collect(),
        }
    }
}

/// Checks that every sharded stream has the shards that are to be read.
fn check_shards(targets: &[Target], read_shards: Option<&[u16]>) -> Result<()> {
    let Some(read) = read_shards else {
        return Ok(());
    };
    let sharded = || {
        targets.iter().filter_map(|target| match target {
            Target::Shards(shards) => Some(shards),
            Target::Stream(_) => None,
        })
    };
    if read.is_empty() || sharded().next().is_none() {
        return Err(Error::configuration(
            "`shards` names the shards to read of a sharded stream; name at least one, and the stream with `sharded`",
        ));
    }
    for shards in sharded() {
        if let Some(shard) = read.iter().find(|shard| **shard >= shards.count()) {
            return Err(Error::configuration(format!(
                "stream `{}` has no shard {shard}; its shards are 0 to {}",
                shards.name(),
                shards.count() - 1
            )));
        }
    }
    Ok(())
}
