//! What a consumer counted.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a consumer counted, from its start or for one drain.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Report {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters behind a [`Report`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn report(&self) -> Report {
                Report { $($name: self.$name.get(),)* }
            }
        }

        impl Report {
            /// What was counted since an earlier report of the same consumer.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }

        /// One line per count that is not zero.
        impl fmt::Display for Report {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = [$((stringify!($name), self.$name)),*];
                for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
                    writeln!(f, "{name:<14}{count:>9}")?;
                }
                Ok(())
            }
        }
    };
}

counters! {
    /// Entries read from the stream and dealt with, those claimed from other consumers included.
    /// Each is one of `stored`, `duplicates`, `malformed`, `ignored` and `unknown`.
    read,
    /// Entries claimed after another consumer of the group had left them pending.
    claimed,
    /// Events stored to be run.
    stored,
    /// Entries whose event was in the inbox already; acknowledged, not run again.
    duplicates,
    /// Entries with no readable envelope, or that the database refuses; each is a dead letter.
    malformed,
    /// Events that the router ignores, as they arrive.
    ignored,
    /// Events whose type the router does not know, as they arrive, whatever became of them.
    unknown,
    /// Entries that were trimmed from the stream before anyone stored them: lost.
    trimmed,
    /// Events done: the handler's writes and the row's state are committed.
    processed,
    /// Events that handlers have published: they are in the outbox, committed with their handlers' writes.
    published,
    /// Runs that failed and are scheduled again.
    failed,
    /// Events that became dead letters after a run.
    dead_lettered,
    /// Rows whose worker had lapsed, run again alone.
    recovered,
    /// Events that became dead letters because they ended their process too often.
    crash_looped,
    /// Rows handed back with no attempt counted: the infrastructure failed, a layer was
    /// overloaded, or the consumer stopped.
    handed_back,
    /// Rows that another worker had taken over before this one was done.
    lease_lost,
    /// Rows that a lost transaction has left to nobody here: settled by its commit, whose answer did
    /// not come, or another worker's by now.
    unconfirmed,
    /// Units of work that lost their transaction; their events ran again one at a time.
    units_lost,
    /// Finished rows deleted after their retention.
    purged,
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_len(&self, count: usize) {
        self.add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_prints_what_is_not_zero() {
        let report = Report {
            read: 12,
            processed: 11,
            ..Report::default()
        };

        assert_eq!(
            report.to_string(),
            "read                 12\nprocessed            11\n"
        );
    }
}
