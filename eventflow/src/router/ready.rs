//! Waiting for the layers of one handler, which other handlers do not wait for.

use std::{fmt, time::Duration};

use tower::{Service, ServiceExt};

use super::HandlerService;
use crate::{
    delivery::Delivery,
    error::BoxError,
    handler::{Failure, failure::links},
    inbox::Inbox,
};

/// How long an event waits for the layers of its handler. Then it is handed back, and other events
/// have their turn.
const PATIENCE: Duration = Duration::from_secs(15);

/// Calls a layered handler once its layers are ready.
///
/// Each call waits by itself, on a clone: a router whose `poll_ready` waited for all its layered
/// handlers would keep every event waiting for the slowest, and hold what a limit gives for the
/// handlers that it does not call.
///
/// # Errors
/// What the service answered, or [`NotReady`].
pub(super) async fn call<I: Inbox>(
    mut service: HandlerService<I>,
    delivery: Delivery<I>,
) -> Result<(), Failure> {
    let stopping = delivery.stopping().clone();
    let ready = tokio::select! {
        biased;
        () = stopping.cancelled() => Err(NotReady::new("the consumer stops")),
        ready = delivery.wait_for(tokio::time::timeout(PATIENCE, service.ready())) => match ready {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NotReady { why: "one of them failed", source: Some(error) }),
            Err(_) => Err(NotReady::new("they hold the event back")),
        },
    };
    ready.map_err(Failure::retry)?;
    service.call(delivery).await.map_err(Failure::from_service)
}

/// The layers of a handler were not ready for an event: it is handed back, and no attempt is
/// counted.
#[derive(Debug)]
pub(crate) struct NotReady {
    why: &'static str,
    source: Option<BoxError>,
}

impl NotReady {
    /// Whether an event was handed back because of this.
    pub(crate) fn is_in(error: &BoxError) -> bool {
        links(error.as_ref()).any(<dyn std::error::Error>::is::<Self>)
    }

    const fn new(why: &'static str) -> Self {
        Self { why, source: None }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the layers of the handler are not ready: {}", self.why)
    }
}

impl std::error::Error for NotReady {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}
