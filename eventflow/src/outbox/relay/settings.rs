//! What can be set on a relay, with the defaults.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    outbox::Retention,
};

/// Beyond any use, and within what clocks and databases can add to now.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

const DAY: Duration = Duration::from_hours(24);

/// What can be set; the builder's methods say what each means.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) batch_size: u32,
    pub(super) poll_interval: Duration,
    pub(super) lease: Duration,
    pub(super) grace: Duration,
    pub(super) deletes_published: bool,
    pub(super) retention: Retention,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_size: 500,
            poll_interval: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            grace: Duration::from_secs(25),
            deletes_published: false,
            retention: Retention {
                published: 7 * DAY,
                dead_letter: 30 * DAY,
            },
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        let longest = [
            self.poll_interval,
            self.lease,
            self.grace,
            self.retention.published,
            self.retention.dead_letter,
        ];
        let in_range = [
            (
                longest.iter().all(|time| *time <= LONGEST),
                "no time may be longer than 100 years",
            ),
            (
                (1..=10_000).contains(&self.batch_size),
                "`batch_size` must be between 1 and 10000",
            ),
            (
                self.poll_interval >= Duration::from_millis(10),
                "`poll_interval` must be at least 10 ms",
            ),
            (
                self.lease >= Duration::from_millis(100),
                "`lease` must be at least 100 ms",
            ),
        ];
        match in_range.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::configuration(*message)),
            None => Ok(()),
        }
    }
}
