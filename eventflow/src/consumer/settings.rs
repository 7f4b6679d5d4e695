//! What can be set on a consumer, with the defaults.

use std::time::Duration;

use crate::{
    delivery::DEFAULT_HANDLER_TIMEOUT,
    envelope::wire::Limits,
    error::{Error, Result},
    inbox::{LARGEST_BATCH, OrderPolicy, Retention, backoff::Backoff},
};

/// Beyond any use, and within what clocks and databases can add to now.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// The longest payload that may be allowed: escaped, it still fits into a statement.
const LARGEST_PAYLOAD: usize = 256 * 1024 * 1024;

const DAY: Duration = Duration::from_hours(24);

/// What a consumer does with events of a type that its router does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UnknownEvents {
    /// Keeps them as dead letters.
    #[default]
    DeadLetter,
    /// Acknowledges and counts them; no row is kept.
    Ignore,
    /// Leaves them for a later deploy: `pending`, until a consumer that knows the type runs. It
    /// looks for them when it starts, and then as often as a lease lasts.
    Leave,
}

/// What can be set; the builder's methods say what each means.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) batch_size: usize,
    pub(crate) block: Duration,
    pub(crate) workers: usize,
    pub(crate) inline: bool,
    pub(crate) order: Option<OrderPolicy>,
    pub(crate) high_water_mark: u32,
    pub(crate) max_retries: i32,
    pub(crate) backoff: Backoff,
    pub(crate) handler_timeout: Duration,
    pub(crate) lease: Duration,
    pub(crate) claim_idle: Duration,
    pub(crate) grace: Duration,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) unknown_events: UnknownEvents,
    pub(crate) poll_interval: Duration,
}

impl Settings {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            batch_size: 100,
            block: Duration::from_secs(2),
            workers: 6,
            inline: false,
            order: None,
            high_water_mark: 10_000,
            max_retries: 3,
            backoff: Backoff::DEFAULT,
            handler_timeout: DEFAULT_HANDLER_TIMEOUT,
            lease: Duration::from_mins(1),
            claim_idle: Duration::from_mins(1),
            grace: Duration::from_secs(25),
            limits: Limits::default(),
            retention: Retention {
                processed: 7 * DAY,
                dead_letter: 30 * DAY,
            },
            unknown_events: UnknownEvents::DeadLetter,
            poll_interval: Duration::from_secs(1),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let longest = [
            self.block,
            self.handler_timeout,
            self.lease,
            self.claim_idle,
            self.grace,
            self.retention.processed,
            self.retention.dead_letter,
            self.poll_interval,
        ];
        let in_range = [
            (
                longest.iter().all(|time| *time <= LONGEST),
                "no time may be longer than 100 years",
            ),
            (
                self.block >= Duration::from_millis(1),
                "`block` must be at least 1 ms",
            ),
            (
                self.claim_idle >= Duration::from_millis(10),
                "`claim_idle` must be at least 10 ms",
            ),
            (
                (1..=255).contains(&self.name.chars().count()),
                "`name` must have 1 to 255 characters; the source's group is taken if it is not set",
            ),
            (
                (1..=usize::from(LARGEST_BATCH)).contains(&self.batch_size),
                "`batch_size` must be between 1 and 10000",
            ),
            (
                (1..=1_000).contains(&self.workers),
                "`workers` must be between 1 and 1000",
            ),
            (
                self.lease >= Duration::from_millis(100),
                "`lease` must be at least 100 ms",
            ),
            (
                self.poll_interval >= Duration::from_millis(10),
                "`poll_interval` must be at least 10 ms",
            ),
            (
                self.limits.largest_payload() <= LARGEST_PAYLOAD,
                "`payload_limit` must be at most 256 MiB",
            ),
            (
                !self.handler_timeout.is_zero(),
                "`handler_timeout` must be longer than zero",
            ),
        ];
        match in_range.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::configuration(*message)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::builder::CONNECTIONS_BESIDE_WORKERS, *};

    const README: &str = include_str!("../../../README.md");

    fn words(time: Duration) -> String {
        match time.as_secs() {
            days if days >= 86_400 && days.is_multiple_of(86_400) => {
                format!("{} days", days / 86_400)
            }
            minutes if minutes > 60 && minutes.is_multiple_of(60) => {
                format!("{} min", minutes / 60)
            }
            seconds => format!("{seconds} s"),
        }
    }

    /// The default of each method of the builder, in the README's words, as a new consumer has it.
    fn defaults() -> Vec<(&'static str, String)> {
        let settings = Settings::new("billing".to_owned());
        let Settings {
            backoff, limits, ..
        } = settings;
        let (base, cap) = (backoff.ceiling(1), backoff.ceiling(u32::MAX));
        assert_eq!(backoff.ceiling(2), base * 2);
        assert_ne!(backoff, backoff.without_jitter());
        let mebibytes = limits.largest_payload() / (1024 * 1024);
        assert_eq!(limits.largest_payload(), mebibytes * 1024 * 1024);
        assert_eq!(settings.name, "billing");
        assert_eq!(settings.unknown_events, UnknownEvents::DeadLetter);
        assert_eq!((settings.inline, settings.high_water_mark), (false, 10_000));
        assert_eq!(
            (settings.order, OrderPolicy::default()),
            (None, OrderPolicy::Block)
        );
        vec![
            ("name", "the stream's group".to_owned()),
            ("batch_size", settings.batch_size.to_string()),
            ("block", words(settings.block)),
            ("workers", settings.workers.to_string()),
            ("inline", "off".to_owned()),
            ("ordered", "off".to_owned()),
            ("order_policy", "block".to_owned()),
            ("high_water_mark", "10 000".to_owned()),
            ("max_retries", settings.max_retries.to_string()),
            (
                "backoff",
                format!(
                    "{}, doubling, at most {}, full jitter",
                    words(base),
                    words(cap)
                ),
            ),
            ("handler_timeout", words(settings.handler_timeout)),
            (
                "lease",
                format!(
                    "{}, extended each {}",
                    words(settings.lease),
                    words(settings.lease / 3)
                ),
            ),
            ("claim_idle", words(settings.claim_idle)),
            ("grace", words(settings.grace)),
            ("payload_limit", format!("{mebibytes} MiB")),
            ("keep_processed", words(settings.retention.processed)),
            ("keep_dead_letters", words(settings.retention.dead_letter)),
            ("unknown_events", "dead letter".to_owned()),
            ("poll_interval", words(settings.poll_interval)),
        ]
    }

    /// The first two columns of the table that follows a line of the README.
    fn table(line: &str) -> Vec<(&'static str, String)> {
        let (_, after) = README.split_once(line).unwrap();
        let rows = after.lines().skip_while(|line| !line.starts_with("| `"));
        rows.map_while(|row| {
            let mut cells = row.strip_prefix("| `")?.split(" | ");
            let method = cells.next()?.trim_end_matches('`');
            Some((method, cells.next()?.to_owned()))
        })
        .collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        assert_eq!(
            table("`Consumer::builder(stream, inbox, service)`:"),
            defaults()
        );
    }

    #[test]
    fn the_pool_is_as_the_readme_says() {
        let inbox = table("`PgInbox::builder(url)`, `PgInbox::with_pool(pool)`");
        let pool = format!("workers + {CONNECTIONS_BESIDE_WORKERS}");

        assert!(inbox.contains(&("max_connections", pool)), "{inbox:?}");
    }
}
