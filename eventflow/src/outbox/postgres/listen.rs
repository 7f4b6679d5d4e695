//! Hears of commits in other processes.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use super::Settings;
use crate::database::postgres::connection::answered;

/// After so long a silence the server is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// Wakes this process's relays for each notification, until the connection fails; answers why.
///
/// The connection is beside the pool's: it is in use all the time.
pub(super) async fn listen(pool: &PgPool, settings: &Settings) -> sqlx::Error {
    match wake_for_each(pool, settings).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn wake_for_each(
    pool: &PgPool,
    settings: &Settings,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let patience = settings.session.patience();
    let options = (*pool.connect_options()).clone();
    let own = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(&settings.channel).await?;
    loop {
        // Also at first, and after a connection that was lost: nobody has told what was committed
        // meanwhile.
        settings.committed.send_replace(());
        let heard = tokio::time::timeout(SILENCE, listener.try_recv()).await;
        if let Ok(notification) = heard {
            notification?;
        } else {
            let asked = sqlx::query("SELECT 1").execute(&mut listener);
            answered(patience, asked).await?;
        }
    }
}
