//! What a relay counted.

use std::fmt;

use crate::consumer::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a relay counted, from its start or for one drain.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct RelayReport {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters behind a [`RelayReport`].
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn report(&self) -> RelayReport {
                RelayReport { $($name: self.$name.get(),)* }
            }
        }

        impl RelayReport {
            /// What was counted since an earlier report of the same relay.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }

        /// One line per count that is not zero.
        impl fmt::Display for RelayReport {
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
    /// Events that the broker has taken, those counted that were published again.
    published,
    /// Events that became dead letters: the broker refuses them.
    dead_lettered,
    /// Batches that the broker did not answer for, or refused all of; they were sent again.
    send_failures,
    /// Statements that failed; they were run again.
    table_failures,
    /// How often this relay became the one that publishes.
    terms,
    /// How often another relay took over before this one had ended its term.
    leases_lost,
    /// Rows deleted after their retention.
    purged,
}
