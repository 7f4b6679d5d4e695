//! Events that come one by one, from Redis to a handler by way of Postgres.

use std::time::Instant;

use deadpool_redis::redis::Client;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    HOLDER, LEASE,
    arrival::Arrivals,
    postgres::{INSERT, insert, settle},
    redis::{Reader, create_group},
};
use crate::{
    Result,
    job::{Latencies, Trickle},
    service::Start,
    trickle::measure,
};

/// Measures how long events take to their handler.
pub(crate) async fn trickle(trickle: &Trickle) -> Result<Latencies> {
    let client = Client::open(trickle.redis.as_str())?;
    create_group(&client).await?;
    let reader = Reader::connect(&client, HOLDER.to_owned()).await?;
    let database = PgConnection::connect(&trickle.postgres).await?;
    let (starts, mut started) = unbounded_channel();
    tokio::select! {
        latencies = measure(trickle, &mut started) => latencies,
        ended = store_and_start(reader, database, starts) => Err(match ended {
            Ok(()) => "nobody listens".into(),
            Err(error) => error,
        }),
    }
}

/// Stores what comes, and starts its handlers when that is committed, until nobody listens.
async fn store_and_start(
    mut reader: Reader,
    mut database: PgConnection,
    starts: UnboundedSender<Start>,
) -> Result<()> {
    loop {
        let entries = reader.wait().await?;
        let arrivals = Arrivals::read(&entries)?;
        let insert = insert(INSERT, &arrivals).bind(HOLDER).bind(LEASE);
        insert.fetch_all(&mut database).await?;
        for event in arrivals.decode() {
            let (number, time) = (event?.number, Instant::now());
            if starts.send(Start { number, time }).is_err() {
                return Ok(());
            }
        }
        reader.acknowledge(&entries).await?;
        settle(&mut database, &arrivals).await?;
    }
}
