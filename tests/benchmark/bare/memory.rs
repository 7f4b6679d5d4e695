//! Reading a stream in memory, which is the framework's: there is no other to compare it with.

use eventflow::{
    Source as _,
    stream::{EntryId, MemoryStream},
};

use super::{BATCH, redis::Entry};
use crate::Result;

/// The next batch, and the names by which it is acknowledged; none if nothing waits.
pub(super) async fn read(stream: &MemoryStream) -> Result<(Vec<Entry>, Vec<EntryId>)> {
    let batch = stream.read(BATCH, None).await?;
    let mut entries = Vec::with_capacity(batch.entries.len());
    let mut ids = Vec::with_capacity(batch.entries.len());
    for entry in batch.entries {
        let Some((_, data)) = entry.fields.into_iter().next() else {
            return Err("an entry has no data".into());
        };
        entries.push(Entry {
            id: entry.id.id.clone(),
            data,
        });
        ids.push(entry.id);
    }
    Ok((entries, ids))
}
