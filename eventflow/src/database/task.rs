//! Database work in a task of its own.

use crate::error::{Error, ErrorKind};

/// Runs database work to its end, also if the caller is dropped.
///
/// A transaction that is cut while it begins would go back to the pool open.
pub(crate) async fn uncut<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::new(
            ErrorKind::Inbox,
            "the database work was ended with the runtime",
        )
        .with_source(error)
        .into()),
    }
}
