//! What a handler may answer: done, or a failure that says what to do with the event.
//!
//! How a failure becomes a row's next state is the consumer's part.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{
    database::error::infrastructure_in_answer,
    envelope::{DecodeError, EncodeError},
    error::BoxError,
    inbox::LossKind,
};

/// What is to happen with an event whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// Run it again on the inbox's schedule, as often as `max_retries` says.
    Retry,
    /// Run it again after this time instead of the schedule's.
    RetryAfter(Duration),
    /// Keep it as a dead letter now: no further run can help.
    DeadLetter,
}

/// A failed attempt: what to do with the event, and why it failed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use eventflow::Failure;
///
/// let failure = Failure::retry_after(Duration::from_secs(30), "the bank is closed");
/// assert_eq!(failure.to_string(), "the bank is closed");
/// ```
pub struct Failure {
    kind: FailureKind,
    error: BoxError,
    /// What the error holds of the infrastructure, where its chain does not show it.
    hidden: Option<LossKind>,
}

impl Failure {
    /// Runs the event again on the inbox's schedule.
    ///
    /// Takes any error or text, so it fits `.map_err(Failure::retry)`.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Retry, error)
    }

    /// Runs the event again after `delay`; counts as an attempt all the same.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::RetryAfter(delay), error)
    }

    /// Keeps the event as a dead letter now.
    pub fn dead_letter(error: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::DeadLetter, error)
    }

    /// A failure of the given kind.
    pub fn new(kind: FailureKind, error: impl Into<BoxError>) -> Self {
        Self {
            kind,
            error: error.into(),
            hidden: None,
        }
    }

    /// What a service answered that is not ours: a `Failure` is taken out as it is; one that a
    /// layer has wrapped says what is to happen, and the wrapper why. Anything else is retried.
    pub(crate) fn from_service(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(failure) => return *failure,
            Err(error) => error,
        };
        let inside = links(error.as_ref()).find_map(<dyn StdError>::downcast_ref::<Self>);
        let (kind, hidden) = inside.map_or((FailureKind::Retry, None), |failure| {
            (failure.kind, failure.hidden)
        });
        Self {
            kind,
            error,
            hidden,
        }
    }

    /// The first error of a type among the causes.
    pub(crate) fn find<E: StdError + 'static>(&self) -> Option<&E> {
        links(self.error.as_ref()).find_map(<dyn StdError>::downcast_ref)
    }

    /// Whether it is the infrastructure's, which no event is to blame for.
    pub(crate) fn infrastructure(&self) -> Option<LossKind> {
        let found = |link: &(dyn StdError + 'static)| {
            let hidden = link
                .downcast_ref::<Self>()
                .and_then(|failure| failure.hidden);
            hidden.or_else(|| infrastructure_in_answer(link))
        };
        self.hidden
            .or_else(|| links(self.error.as_ref()).find_map(found))
    }

    /// What is to happen with the event.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Why: the handler's own error.
    pub fn error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.error.as_ref()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.kind)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Prints the handler's own error.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// An error type that says per value what is to happen with the event.
///
/// Derived with [`#[derive(Classify)]`](macro@crate::Classify) and an attribute per variant:
/// `#[classify(retry)]` (the default), `#[classify(retry_after = "30s")]`,
/// `#[classify(dead_letter)]`.
///
/// `?` turns such an error into a [`Failure`].
#[diagnostic::on_unimplemented(
    message = "a handler cannot fail with `{Self}`: nothing says whether to retry it",
    label = "annotate `{Self}` with `#[derive(Classify)]`, or use `.map_err(Failure::retry)`",
    note = "annotate `{Self}` with `#[derive(Classify)]`, or answer `Failure` and use `.map_err(Failure::retry)`"
)]
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// What is to happen with the event; the default is to retry on the inbox's schedule.
    fn classify(&self) -> FailureKind {
        FailureKind::Retry
    }

    /// The error inside, which the `source()` of a transparent error passes over; derived.
    #[doc(hidden)]
    fn inner(&self) -> Option<&(dyn StdError + 'static)> {
        None
    }
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            kind: error.classify(),
            hidden: error
                .inner()
                .and_then(|inner| links(inner).find_map(infrastructure_in_answer)),
            error: error.into(),
        }
    }
}

/// An error and its causes, with the one that a [`Failure`] among them stands for.
pub(crate) fn links<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(
        Some(error),
        |&error: &&'e (dyn StdError + 'static)| match error.downcast_ref::<Failure>() {
            Some(failure) => Some(failure.error() as &(dyn StdError + 'static)),
            None => error.source(),
        },
    )
}

/// A boxed error says nothing about itself, so it is retried; a `Failure` inside keeps its kind.
impl From<BoxError> for Failure {
    fn from(error: BoxError) -> Self {
        Self::from_service(error)
    }
}

/// No further run reads the same payload differently.
impl Classify for DecodeError {
    fn classify(&self) -> FailureKind {
        FailureKind::DeadLetter
    }
}

impl Classify for EncodeError {
    fn classify(&self) -> FailureKind {
        FailureKind::DeadLetter
    }
}

impl Classify for crate::Error {}

impl Classify for std::io::Error {}

/// Text that cannot be parsed stays so; reading and writing can pass.
impl Classify for serde_json::Error {
    fn classify(&self) -> FailureKind {
        if self.is_io() {
            FailureKind::Retry
        } else {
            FailureKind::DeadLetter
        }
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl Classify for sqlx::Error {}

/// What a handler's function may return: `()`, or `Result<(), E>` where `E` is a [`Failure`], a
/// boxed error, or [`Classify`].
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not `()` or `Result<(), E>`",
    note = "return `()` or `Result<(), E>`, where `E` is `Failure`, a boxed error, or derives `Classify`"
)]
pub trait HandlerOutput {
    /// Turns the function's answer into the attempt's.
    ///
    /// # Errors
    /// If the function answered an error.
    fn into_result(self) -> Result<(), Failure>;
}

impl HandlerOutput for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: HandlerError> HandlerOutput for Result<(), E> {
    fn into_result(self) -> Result<(), Failure> {
        self.map_err(HandlerError::into_failure)
    }
}

/// The error types that a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot fail with `{Self}`: nothing says whether to retry it",
    label = "not a `Failure`, a boxed error, or `Classify`",
    note = "annotate `{Self}` with `#[derive(Classify)]`, or answer `Failure` and use `.map_err(Failure::retry)`"
)]
pub trait HandlerError {
    /// Turns the error into a failure.
    fn into_failure(self) -> Failure;
}

#[diagnostic::do_not_recommend]
impl<E: Classify> HandlerError for E {
    fn into_failure(self) -> Failure {
        self.into()
    }
}

impl HandlerError for Failure {
    fn into_failure(self) -> Failure {
        self
    }
}

impl HandlerError for BoxError {
    fn into_failure(self) -> Failure {
        self.into()
    }
}
