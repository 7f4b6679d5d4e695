//! Publishing: each event to its key, in order.

use std::{collections::BTreeMap, sync::Arc};

use deadpool_redis::redis::Pipeline;

use super::{server::Server, streams::Target};
use crate::{
    envelope::{Envelope, wire},
    error::Result,
    stream::EntryId,
};

/// How many entries are published in one round trip.
const PUBLISHED_AT_ONCE: usize = 256;

/// An entry to be published: its key and its fields.
type Addition = (Arc<str>, Vec<(Vec<u8>, Vec<u8>)>);

/// Publishes envelopes; answers the ids of their entries, in the order of the envelopes.
pub(super) async fn publish(
    server: &Server,
    target: &Target,
    envelopes: &[Envelope],
    limits: wire::Limits,
) -> Result<Vec<EntryId>> {
    let additions = envelopes
        .iter()
        .map(|envelope| Ok((target.key_of(envelope), wire::write(envelope, limits)?)))
        .collect::<Result<Vec<_>>>()?;
    let action = format!("publishing to stream `{}`", target.name());
    let mut ids = Vec::with_capacity(additions.len());
    for additions in additions.chunks(PUBLISHED_AT_ONCE) {
        ids.extend(add(server, &action, additions).await?);
    }
    Ok(ids)
}

/// Adds to each key all of its entries or none.
///
/// Else a server that refuses one and takes the next, as when it runs out of memory, would put an
/// aggregate's events out of order: those that it has refused are published again behind.
async fn add(server: &Server, action: &str, additions: &[Addition]) -> Result<Vec<EntryId>> {
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, (key, _)) in additions.iter().enumerate() {
        by_key.entry(key).or_default().push(place);
    }
    let mut commands = Pipeline::with_capacity(additions.len() + 2 * by_key.len());
    for (key, places) in &by_key {
        commands.cmd("MULTI").ignore();
        for (_, fields) in places.iter().filter_map(|place| additions.get(*place)) {
            commands.cmd("XADD").arg(*key).arg("*").arg(fields).ignore();
        }
        commands.cmd("EXEC");
    }
    let given: Vec<Vec<String>> = server.run_all(action, &commands).await?;
    let places = by_key.into_values().flatten();
    let mut ids: Vec<_> = places.zip(given.into_iter().flatten()).collect();
    ids.sort_unstable_by_key(|(place, _)| *place);
    let streams = additions.iter().map(|(key, _)| key);
    let ids = ids.into_iter().map(|(_, id)| id);
    Ok(streams
        .zip(ids)
        .map(|(stream, id)| EntryId {
            stream: Arc::clone(stream),
            id,
        })
        .collect())
}
