//! The modes that every case runs in: how a consumer takes new events, and what its handlers allow.

use std::fmt;

use eventflow::consumer::ConsumerBuilder;
use serde::{Deserialize, Serialize};

/// See [`eventflow::modes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// New events run in the transaction that stores them.
    pub inline: bool,
    /// The handlers say that they may be replayed.
    pub replay_safe: bool,
}

impl Mode {
    /// Rows are leased as they are stored, and each event has a savepoint.
    pub const OWNED: Self = Self {
        inline: false,
        replay_safe: false,
    };

    /// Sets a consumer to it. What handlers say is in their tables.
    pub fn set<Src, I, S>(self, builder: ConsumerBuilder<Src, I, S>) -> ConsumerBuilder<Src, I, S>
    where
        Src: eventflow::Source,
        I: eventflow::Inbox,
    {
        if self.inline {
            builder.inline()
        } else {
            builder
        }
    }
}

/// A mode as a type, which tells databases of different modes apart.
pub trait InMode: fmt::Debug + Send + Sync + 'static {
    const MODE: Mode;
}

macro_rules! modes {
    ($($(#[$docs:meta])* $Mode:ident: $inline:literal, $replay_safe:literal;)+) => {
        $(
            $(#[$docs])*
            #[derive(Debug)]
            pub struct $Mode;

            impl InMode for $Mode {
                const MODE: Mode = Mode { inline: $inline, replay_safe: $replay_safe };
            }
        )+
    };
}

modes! {
    /// The default.
    Owned: false, false;
    /// One transaction for a batch, a savepoint for each event.
    Inline: true, false;
    /// Rows are leased as they are stored, and events share a savepoint.
    ReplaySafe: false, true;
    /// One transaction for a batch, whose events share a savepoint.
    InlineReplaySafe: true, true;
}
