//! What one run came to, and the row's next state.

use std::time::Duration;

use tower::load_shed::error::Overloaded;

use super::settings::Settings;
use crate::{
    error::{BoxError, chain},
    handler::{Failure, FailureKind},
    inbox::{LossKind, Row, Settlement, Status, UnitLost},
    router::NotReady,
};

/// The longest `error_message` in bytes.
const MESSAGE_LIMIT: usize = 4096;

/// What one run of an event came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done.
    Processed,
    /// Failed: counts as an attempt.
    Failed(Failure),
    /// Not to blame on the event: no attempt is counted.
    HandedBack(BoxError),
    /// The transaction is lost, or must be given up: the unit's events run again one at a time.
    Lost(LossKind, BoxError),
}

impl Outcome {
    /// Reads the service's answer.
    pub(super) fn of(answer: Result<(), BoxError>) -> Self {
        let Err(error) = answer else {
            return Self::Processed;
        };
        let failure = Failure::from_service(error);
        if failure.find::<Overloaded>().is_some() || failure.find::<NotReady>().is_some() {
            return Self::HandedBack(failure.into());
        }
        if let Some(lost) = failure.find::<UnitLost>() {
            return Self::Lost(lost.kind(), failure.into());
        }
        match failure.infrastructure() {
            Some(LossKind::Conflict) => Self::Lost(LossKind::Conflict, failure.into()),
            Some(_) => Self::HandedBack(failure.into()),
            None => Self::Failed(failure),
        }
    }

    /// The failure that counts as an attempt, if it is one.
    pub(super) fn into_failure(self) -> Option<Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Processed | Self::HandedBack(_) | Self::Lost(..) => None,
        }
    }

    /// The word in logs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Failed(_) => "failed",
            Self::HandedBack(_) => "handed_back",
            Self::Lost(..) => "unit_lost",
        }
    }
}

/// The next state of a row that is done.
pub(super) fn processed(row: &Row) -> Settlement {
    Settlement {
        lease: row.lease,
        status: Status::Processed,
        retry_count: row.retry_count,
        delay: Duration::ZERO,
        error_message: None,
    }
}

/// The next state of a row whose run failed.
pub(super) fn failed(row: &Row, failure: &Failure, settings: &Settings) -> Settlement {
    let retry_count = row.retry_count.saturating_add(1);
    let exhausted = row.max_retries > 0 && retry_count >= row.max_retries;
    let delay = match failure.kind() {
        FailureKind::DeadLetter => None,
        _ if exhausted => None,
        FailureKind::Retry => Some(settings.backoff.delay(retry_count.unsigned_abs())),
        FailureKind::RetryAfter(delay) => Some(delay),
    };
    Settlement {
        lease: row.lease,
        status: if delay.is_some() {
            Status::Failed
        } else {
            Status::DeadLetter
        },
        retry_count,
        delay: delay.unwrap_or_default(),
        error_message: Some(message(&chain(failure.error()))),
    }
}

/// The next state of a row that is kept or parked without a run.
pub(super) fn without_run(row: &Row, status: Status, reason: &str) -> Settlement {
    Settlement {
        lease: row.lease,
        status,
        retry_count: row.retry_count,
        delay: Duration::ZERO,
        error_message: (status == Status::DeadLetter).then(|| message(reason)),
    }
}

/// Makes text fit for the column: no NUL, cut at a character.
pub(super) fn message(text: &str) -> String {
    let mut message = text.replace('\0', "\u{fffd}");
    if message.len() > MESSAGE_LIMIT {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT - '…'.len_utf8()));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::{Envelope, Metadata, Payload},
        inbox::Lease,
    };

    fn row(retry_count: i32, max_retries: i32) -> Row {
        Row {
            lease: Lease {
                id: uuid::Uuid::nil(),
                token: 1,
            },
            envelope: Envelope::from_parts(Metadata::of("e-1"), Payload::empty()),
            retry_count,
            max_retries,
            due_in: Duration::ZERO,
        }
    }

    fn settings() -> Settings {
        Settings::new("billing".to_owned())
    }

    #[test]
    fn three_retries_are_three_runs_in_all() {
        let failure = Failure::retry("no");
        let states: Vec<_> = (0..3)
            .map(|failed_runs| failed(&row(failed_runs, 3), &failure, &settings()).status)
            .collect();

        assert_eq!(states, [Status::Failed, Status::Failed, Status::DeadLetter]);
    }

    #[test]
    fn no_limit_is_for_ever() {
        for limit in [0, -1] {
            let settlement = failed(&row(1_000_000, limit), &Failure::retry("no"), &settings());

            assert_eq!(settlement.status, Status::Failed);
            assert!(settlement.delay <= Duration::from_mins(15));
        }
    }

    #[test]
    fn a_handler_says_when_to_run_again_and_when_not() {
        let later = Failure::retry_after(Duration::from_secs(30), "busy");
        let never = Failure::dead_letter("nonsense");

        assert_eq!(
            failed(&row(0, 3), &later, &settings()).delay,
            Duration::from_secs(30)
        );
        assert_eq!(
            failed(&row(0, 3), &never, &settings()).status,
            Status::DeadLetter
        );
    }

    #[test]
    fn a_message_is_cut_at_a_character_and_has_no_nul() {
        let text = format!("a\0{}", "ß".repeat(MESSAGE_LIMIT));

        let message = message(&text);

        assert!(message.len() <= MESSAGE_LIMIT);
        assert!(message.starts_with("a\u{fffd}ß") && message.ends_with("ß…"));
    }

    #[test]
    fn an_overloaded_layer_burns_no_attempt() {
        let outcome = Outcome::of(Err(Box::new(Overloaded::new())));

        assert!(matches!(outcome, Outcome::HandedBack(_)));
    }

    /// What a layer of the user's makes of an error.
    #[derive(Debug, thiserror::Error)]
    #[error("in the shop")]
    struct InTheShop(#[source] BoxError);

    #[test]
    fn what_a_layer_wraps_is_found_again() {
        let wrapped = |error: BoxError| Outcome::of(Err(Box::new(InTheShop(error))));

        let overloaded = wrapped(Box::new(Overloaded::new()));
        assert!(matches!(overloaded, Outcome::HandedBack(_)));
        let lost = wrapped(Failure::retry(UnitLost::lease_lost()).into());
        assert!(matches!(lost, Outcome::Lost(_, _)));
        let never = wrapped(Failure::dead_letter("nonsense").into()).into_failure();
        let never = never.unwrap();
        assert_eq!(never.kind(), FailureKind::DeadLetter);
        assert_eq!(chain(never.error()), "in the shop: nonsense");
    }
}
