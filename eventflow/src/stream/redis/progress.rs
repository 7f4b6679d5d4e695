//! How far a group has come as its reader sees it: ids only grow, unless the server has lost
//! something.

use std::{collections::BTreeMap, sync::Arc};

use crate::stream::EntryId;

/// An entry's place in its stream: milliseconds, and a number within them.
type Place = (u64, u64);

/// The last new entry of each stream.
#[derive(Debug, Default)]
pub(super) struct Progress(BTreeMap<Arc<str>, Place>);

impl Progress {
    /// Notes a new entry; answers whether the group has gone back, which it tells once.
    pub(super) fn goes_back_to(&mut self, entry: &EntryId) -> bool {
        let Some(place) = place(&entry.id) else {
            return false;
        };
        let before = self.0.insert(Arc::clone(&entry.stream), place);
        before.is_some_and(|before| place <= before)
    }

    /// Begins anew with a stream.
    pub(super) fn forget(&mut self, stream: &str) {
        self.0.remove(stream);
    }
}

fn place(id: &str) -> Option<Place> {
    let (millis, number) = id.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_told_once_for_each_stream() {
        let mut progress = Progress::default();
        let mut goes_back = |stream: &str, id: &str| {
            progress.goes_back_to(&EntryId {
                stream: Arc::from(stream),
                id: id.to_owned(),
            })
        };

        assert!(!goes_back("orders", "9-0"));
        assert!(!goes_back("orders", "10-0"));
        assert!(!goes_back("payments", "1-0"));
        assert!(!goes_back("orders", "10-2"));
        assert!(goes_back("orders", "10-2"));
        assert!(goes_back("orders", "10-1"));
        assert!(!goes_back("orders", "10-2"));
        assert!(!goes_back("payments", "1-1"));
    }
}
