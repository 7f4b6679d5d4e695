//! Database work in a task of its own.

use crate::error::{Error, ErrorKind};

/// Runs database work to its end, also if the caller is dropped. It begins at once.
///
/// A transaction that is cut while it begins would go back to the pool open.
pub(crate) fn uncut<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> impl Future<Output = Result<T, E>> + Send
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    // Boxed at once: it is large, and would else be part of each future that waits for it.
    let task = tokio::spawn(Box::pin(work));
    async {
        match task.await {
            Ok(answer) => answer,
            Err(error) => Err(Error::new(
                ErrorKind::Inbox,
                "the database work was ended with the runtime",
            )
            .with_source(error)
            .into()),
        }
    }
}
